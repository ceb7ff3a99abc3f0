package central

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// The kinds of object that are watched, as the API calls them.
const (
	services       = "services"
	endpointSlices = "endpointslices"
)

// Run keeps the view up to date until ctx ends.
func (v *View) Run(ctx context.Context) {
	core, discovery := v.options.Client.CoreV1().Services(""), v.options.Client.DiscoveryV1().EndpointSlices("")
	var wg sync.WaitGroup
	wg.Go(func() {
		s := &store[*corev1.Service]{view: v, kind: services, trim: mirror.TrimService, objects: v.services}
		v.follow(ctx, services, &corev1.Service{}, s, &s.since,
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return core.List(ctx, o) }, core.Watch)
	})
	wg.Go(func() {
		s := &store[*discoveryv1.EndpointSlice]{view: v, kind: endpointSlices, trim: mirror.TrimSlice, objects: v.slices}
		v.follow(ctx, endpointSlices, &discoveryv1.EndpointSlice{}, s, &s.since,
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return discovery.List(ctx, o) }, discovery.Watch)
	})
	wg.Wait()
}

// Relist has everything listed again, at once: the central cluster may have gone back to an
// earlier state, of which watches tell nothing.
func (v *View) Relist() {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, end := range v.relist {
		end()
	}
}

type (
	listFunc  = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// follow keeps a store up to date with the owner's objects until ctx ends. since is set to
// the highest version seen when a listing begins; what is deleted from then on is noted.
func (v *View) follow(ctx context.Context, kind string, of runtime.Object, s cache.ReflectorStore, since *string, list listFunc, follow watchFunc) {
	begin := func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		*since, v.dropped[kind] = v.highest[kind], map[types.UID]bool{}
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if o.Continue == "" { // a further page is of the first one's version
				begin()
			}
			o.LabelSelector = v.options.Owner.Selector
			// Consistent reads only: an older listing would bring deleted objects back.
			o.ResourceVersion, o.ResourceVersionMatch = "", ""
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil && *o.SendInitialEvents {
				begin()
			}
			o.LabelSelector = v.options.Owner.Selector
			return follow(ctx, o)
		},
	}
	for ctx.Err() == nil {
		watching, end := context.WithCancel(ctx)
		v.mu.Lock()
		v.relist[kind] = end
		v.mu.Unlock()
		backoff := wait.Backoff{Duration: 200 * time.Millisecond, Cap: 5 * time.Second, Steps: 6, Factor: 2, Jitter: 0.5}
		cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, v.options.Client), of, s, cache.ReflectorOptions{Backoff: &backoff}).RunWithContext(watching)
		end()
	}
}

// store is the receiving end of one kind's reflector.
type store[T object] struct {
	view    *View
	kind    string
	trim    func(T) T
	objects map[types.NamespacedName]T
	since   string // the highest version seen when the listing began; the reflector's alone
}

// Transformer has objects trimmed as they come in.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		t, err := s.object(o)
		if err != nil {
			return nil, err
		}
		return s.trim(t), nil
	}
}

func (s *store[T]) object(o any) (T, error) {
	t, ok := o.(T)
	if !ok {
		return nil, fmt.Errorf("%s: unexpected %T from the central cluster", s.kind, o)
	}
	return t, nil
}

func (s *store[T]) Add(o any) error { return s.Update(o) }

func (s *store[T]) Update(o any) error {
	return s.change(o, func(t T) []mirror.Key { return put(s.view, s.objects, s.trim(t), false) })
}

func (s *store[T]) Delete(o any) error {
	return s.change(o, func(t T) []mirror.Key { return drop(s.view, s.objects, t) })
}

func (s *store[T]) change(o any, change func(T) []mirror.Key) error {
	t, err := s.object(o)
	if err != nil {
		return err
	}
	s.view.options.Update(false, func() []mirror.Key {
		s.view.mu.Lock()
		defer s.view.mu.Unlock()
		s.view.see(s.kind, t.GetResourceVersion())
		return change(t)
	})
	return nil
}

// Replace hands over all of a kind's objects, as of a version. Own writes that were
// answered since the listing began are newer than it; any other object is as listed, even if
// its version is lower than what was known: a restore may raise the version of the whole and leave
// those of the objects. A version below those that were known when the listing began says that the
// central cluster has gone back to an earlier state: then all is as listed.
func (s *store[T]) Replace(list []any, version string) error {
	all := make([]T, len(list))
	for i, o := range list {
		t, err := s.object(o)
		if err != nil {
			return err
		}
		all[i] = s.trim(t)
	}
	s.view.options.Update(true, func() []mirror.Key {
		s.view.mu.Lock()
		defer s.view.mu.Unlock()
		return s.replace(all, version)
	})
	return nil
}

func (s *store[T]) replace(all []T, version string) (touched []mirror.Key) {
	v := s.view
	restored := older(version, s.since)
	if restored {
		v.highest[s.kind] = version
	}
	v.see(s.kind, version)
	seen := make(map[types.NamespacedName]bool, len(all))
	for _, o := range all {
		seen[nameOf(o)] = true
		if v.dropped[s.kind][o.GetUID()] && !restored {
			continue
		}
		known, had := s.objects[nameOf(o)]
		force := restored || had && !older(version, known.GetResourceVersion())
		touched = append(touched, put(v, s.objects, o, force)...)
	}
	delete(v.dropped, s.kind)
	for name, o := range s.objects {
		if !seen[name] && (restored || !older(version, o.GetResourceVersion())) {
			touched = append(touched, dropName(v, s.objects, name)...)
		}
	}
	if v.listed[s.kind] = true; len(v.listed) == 2 {
		select {
		case <-v.complete:
		default:
			close(v.complete)
		}
	}
	return touched
}

func (s *store[T]) Resync() error { return nil }

// see records a version. The caller holds v.mu.
func (v *View) see(kind, version string) {
	if older(v.highest[kind], version) || v.highest[kind] == "" {
		v.highest[kind] = version
	}
}

// older reports whether version a is before b. Versions of one resource are comparable
// (KEP-5504); of a server whose aren't, none is.
func older(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && c < 0
}

// asNew says whether a is the same object as b, as b is or later. Where versions can't be
// compared the last word wins.
func asNew(a, b metav1.Object) bool {
	if a.GetUID() != b.GetUID() {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && c >= 0
}
