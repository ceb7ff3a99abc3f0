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
	"k8s.io/client-go/tools/pager"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// pageSize is how many objects one request of a listing asks for.
	pageSize = 500
	// minPageSize is how many it asks for at least, where objects are large. So many of
	// the largest that the API takes fit into an answer.
	minPageSize = 5
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

// errRelist ends a watch whose resource is to be listed again.
var errRelist = apierrors.NewResourceExpired("the upstream is listed again as a whole")

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

	// relist has the watch end, for a new listing.
	relist chan struct{}

	// The source's mutex guards these.
	synced   bool               // has been listed
	mustList bool               // is being listed again, or has to be
	listing  map[mirror.Key]row // a complete listing that waits for the other resources'
	used     size               // of listing
	err      error              // why the last request failed
}

// beginListing says that a listing begins. It is the one that relist asks for, if any.
func (r *resource) beginListing() {
	select {
	case <-r.relist:
	default:
	}
	r.source.relistAll(r)
}

// requestRelist has the resource listed again, if it is being watched.
func (r *resource) requestRelist() {
	select {
	case r.relist <- struct{}{}:
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
	r.beginListing()
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	l := listing{resource: r, limit: pageSize}
	// FullListIfExpired isn't set: a listing in one answer would be kept before it is counted.
	p := pager.ListPager{PageSize: pageSize, PageFn: l.items}
	all, _, err := p.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, r.failed("list", err)
	}
	return all, nil
}

// listing is a listing under way.
type listing struct {
	*resource
	limit int64 // objects in a page
	used  size  // so far
}

// items reads a page and returns the selected objects as items. Where objects are large it reads fewer at a time.
func (l *listing) items(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.Limit = l.limit
	page, err := l.bounded(ctx, o)
	for errors.Is(err, upstream.ErrResponseTooLarge) && o.Limit > minPageSize {
		o.Limit = max(minPageSize, o.Limit/10)
		page, err = l.bounded(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	l.limit = o.Limit
	items := &metainternalversion.List{ListMeta: metav1.ListMeta{ResourceVersion: page.GetResourceVersion(), Continue: page.GetContinue()}}
	err = meta.EachListItem(page, func(o runtime.Object) error {
		i, err := l.source.converter.item(o)
		if err != nil || i.row == nil {
			return err
		}
		l.used = l.used.plus(i.row.size())
		items.Items = append(items.Items, i)
		return check(l.source.options.Limits, l.kind, l.used)
	})
	return items, err
}

// bounded reads a page of at most so many bytes and in so long a time as the options say.
func (l *listing) bounded(ctx context.Context, o metav1.ListOptions) (list, error) {
	return l.page(upstream.NewAllowance(l.source.options.maxPage).With(ctx), o, l.source.options.StreamTimeout)
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

// WatchWithContext starts a watch or, where the options ask for initial events, a
// streaming list (KEP-3157). Whatever keeps a streaming list from being complete is
// the end of it: the reflector then reads pages, which fail in a way that can be told.
func (r *resource) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	limit := watchStart
	if !initial && r.source.mustList(r) {
		return nil, errRelist
	}
	if initial {
		r.beginListing()
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
	bytes := upstream.NewAllowance(maxObject)
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
		r.source.relistAll(r) // not a failure: a new listing follows
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
	_, err := r.page(upstream.NewAllowance(maxObject).With(ctx), metav1.ListOptions{Limit: 1}, r.source.options.RequestTimeout)
	return err
}

// expired reports whether a watch has lost its place, which a new listing mends.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}
