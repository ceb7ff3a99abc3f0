package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// pageSize is how many objects one request of a listing asks for.
	pageSize = 500
	// watchStart is how long a watch may take to start: some proxies hold its header
	// back until the first event, which is a bookmark about every minute.
	watchStart = 2 * time.Minute
	// watchGrace is how much longer a watch may last than the server was told.
	watchGrace = 30 * time.Second
	// watchSpacing is the least time from one watch to the next.
	watchSpacing = 500 * time.Millisecond
	// largePause is how long a resource that goes past its budget is left alone.
	largePause = time.Minute
)

// errAnew ends a watch whose resource is to be listed again.
var errAnew = apierrors.NewResourceExpired("the upstream is listed again as a whole")

var (
	errStalled    = errors.New("no progress")
	errUnfinished = errors.New("the streaming list ended before it was complete")
	errPagesOnly  = errors.New("the upstream doesn't complete streaming lists")
)

// resource lists and watches one kind of object for a reflector (a
// cache.ListerWatcherWithContext), converts objects to items as they come in, keeps to
// the budget, and reports to the source what the reflector wouldn't.
type resource struct {
	kind
	source *Source
	list   func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch  func(context.Context, metav1.ListOptions) (watch.Interface, error)

	// Only the reflector's goroutine uses these.
	pagesOnly bool      // streaming lists don't complete
	notBefore time.Time // of the next request

	// anew has the watch end, for a new listing.
	anew chan struct{}

	// The source's mutex guards these.
	synced  bool               // has been listed
	lost    bool               // is being listed again, or has to be
	listing map[mirror.Key]row // a complete listing that waits for the other resources'
	used    size               // of listing
	err     error              // why the last request failed
}

// losing says that the listing begins which anew asks for, or another.
func (r *resource) losing() {
	select {
	case <-r.anew:
	default:
	}
	r.source.losing(r)
}

// again has the resource listed anew, if it is being watched.
func (r *resource) again() {
	select {
	case r.anew <- struct{}{}:
	default:
	}
}

// List is here because cache.NewReflector asks for it; the reflector uses ListWithContext.
func (r *resource) List(o metav1.ListOptions) (runtime.Object, error) {
	return r.ListWithContext(context.Background(), o)
}

// Watch is here because cache.NewReflector asks for it; the reflector uses WatchWithContext.
func (r *resource) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return r.WatchWithContext(context.Background(), o)
}

// ListWithContext returns all objects as items, read page by page, consistently and at
// the most recent version, whatever the options say: an API server that lags behind
// another one would take the inventory back in time.
func (r *resource) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	r.losing()
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	all := &metainternalversion.List{}
	var used size
	for next := (metav1.ListOptions{Limit: pageSize}); ; {
		page, err := r.page(ctx, next, r.source.options.StreamTimeout)
		if err == nil {
			err = r.collect(page, all, &used)
		}
		if err != nil {
			return nil, r.failed("list", err)
		}
		all.ResourceVersion = page.GetResourceVersion()
		if next.Continue = page.GetContinue(); next.Continue == "" {
			return all, nil
		}
	}
}

// list is a page of objects and its metadata.
type list interface {
	runtime.Object
	metav1.ListInterface
}

// page reads a page. client-go takes an answer of another kind for an empty list,
// which has no version.
func (r *resource) page(ctx context.Context, o metav1.ListOptions, timeout time.Duration) (list, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	objects, err := r.list(ctx, o)
	if err != nil {
		return nil, err
	}
	page, ok := objects.(list)
	switch {
	case !ok || meta.LenList(objects) == 0 && page.GetContinue() != "":
		return nil, errors.New("the answer isn't a page of a list")
	case page.GetResourceVersion() == "":
		return nil, errors.New("the answer is a list without a version")
	}
	return page, nil
}

// collect appends the selected objects of a page to all.
func (r *resource) collect(page list, all *metainternalversion.List, used *size) error {
	return meta.EachListItem(page, func(o runtime.Object) error {
		i, err := r.source.converter.item(o)
		if err != nil || i.row == nil {
			return err
		}
		*used = used.plus(i.row.size())
		all.Items = append(all.Items, i)
		return check(r.source.options.Limits, r.kind, *used)
	})
}

// WatchWithContext starts a watch or, where the options ask for initial events, a
// streaming list (KEP-3157). Whatever keeps a streaming list from being complete is
// the end of it: the reflector then reads pages, which fail in a way that can be told.
func (r *resource) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	limit := watchStart
	if !initial && r.source.isLost(r) {
		return nil, errAnew
	}
	if initial {
		r.losing()
		if r.pagesOnly {
			return nil, errPagesOnly
		}
		o.ResourceVersion = "" // the most recent, as with pages
		limit = r.source.options.StreamTimeout
	}
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	r.notBefore = time.Now().Add(watchSpacing)
	bytes := upstream.NewAllowance(maxEvent)
	ctx, cancel := context.WithCancelCause(bytes.With(ctx))
	inner, err := r.start(ctx, cancel, o, limit)
	if err != nil {
		cancel(nil)
		if !initial {
			return nil, r.failed("watch", err)
		}
		if errors.Is(err, errStalled) {
			r.readPages()
		}
		return nil, fmt.Errorf("streaming list: %s", upstream.Clean(err.Error()))
	}
	s := &stream{
		resource: r, inner: inner, bytes: bytes, ctx: ctx, cancel: func() { cancel(nil) },
		result: make(chan watch.Event), initial: initial, lifetime: lifetime(o) + watchGrace,
	}
	if !initial {
		r.source.watching(r)
	}
	go s.run()
	return s, nil
}

// start starts a watch, or fails with errStalled where that takes longer than limit.
func (r *resource) start(ctx context.Context, cancel context.CancelCauseFunc, o metav1.ListOptions, limit time.Duration) (watch.Interface, error) {
	timer := time.AfterFunc(limit, func() { cancel(errStalled) })
	w, err := r.watch(ctx, o)
	if timer.Stop() {
		return w, err
	}
	if err == nil {
		w.Stop()
	}
	return nil, errStalled
}

// readPages gives up streaming lists for good.
func (r *resource) readPages() {
	r.pagesOnly = true
	r.source.options.Logger.Warn("the upstream doesn't complete streaming lists: reading pages from now on", "resource", r.kind.String())
}

func lifetime(o metav1.ListOptions) time.Duration {
	if o.TimeoutSeconds == nil {
		return time.Hour
	}
	return time.Duration(*o.TimeoutSeconds) * time.Second
}

// wait holds a request back until its time has come.
func (r *resource) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Until(r.notBefore))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// failed reports an error and returns it.
func (r *resource) failed(verb string, err error) error {
	if tooBig(err) {
		r.notBefore = time.Now().Add(largePause)
	}
	if verb == "watch" && expired(err) {
		r.source.losing(r) // not a failure: a new listing follows
	} else {
		r.source.failed(r, verb, err)
	}
	return err
}

func tooBig(err error) bool {
	var large *upstream.TooLarge
	return errors.As(err, &large) || errors.Is(err, upstream.ErrResponseTooLarge)
}

// probe asks for one object: it proves that the upstream can be reached, knows the
// credentials and grants the listing at present, which a watch that goes on doesn't.
func (r *resource) probe(ctx context.Context) error {
	_, err := r.page(upstream.NewAllowance(maxProbe).With(ctx), metav1.ListOptions{Limit: 1}, r.source.options.RequestTimeout)
	return err
}

// expired reports whether a watch has lost its place, which a new listing mends.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}
