package discovery

import (
	"context"
	"fmt"
	"slices"
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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// central is what one upstream has in the central cluster: the Services and
// EndpointSlices with its backend label, trimmed, by upstream key. It is fed by
// watches and by the answers to the agent's own writes, whichever is newer, so
// that a second change of a key needn't wait for the watch.
type central struct {
	client  kubernetes.Interface
	backend string
	changed func(relisted bool, keys ...mirror.Key)

	mu       sync.RWMutex
	services map[types.NamespacedName]*corev1.Service
	slices   map[types.NamespacedName]*discoveryv1.EndpointSlice
	byKey    map[mirror.Key]*entry
	// endpoints counts the endpoints in slices.
	endpoints int
	listed    map[string]bool
	complete  chan struct{}
}

// entry is what the central cluster holds for one key.
type entry struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

func newCentral(client kubernetes.Interface, backend string, changed func(relisted bool, keys ...mirror.Key)) *central {
	return &central{
		client: client, backend: backend, changed: changed,
		services: map[types.NamespacedName]*corev1.Service{},
		slices:   map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		byKey:    map[mirror.Key]*entry{},
		listed:   map[string]bool{},
		complete: make(chan struct{}),
	}
}

// Run keeps the view up to date until ctx ends.
func (c *central) Run(ctx context.Context) {
	selector := mirror.LabelBackend + "=" + c.backend
	core, disc := c.client.CoreV1().Services(""), c.client.DiscoveryV1().EndpointSlices("")
	var wg sync.WaitGroup
	wg.Go(func() {
		reflect(ctx, &corev1.Service{}, &centralStore[*corev1.Service]{c: c, kind: "services", trim: mirror.TrimService, objects: c.services},
			selector,
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return core.List(ctx, o) }, core.Watch)
	})
	wg.Go(func() {
		reflect(ctx, &discoveryv1.EndpointSlice{}, &centralStore[*discoveryv1.EndpointSlice]{c: c, kind: "endpointslices", trim: mirror.TrimSlice, objects: c.slices},
			selector,
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return disc.List(ctx, o) }, disc.Watch)
	})
	wg.Wait()
}

// Objects returns what the central cluster holds for a key.
func (c *central) Objects(key mirror.Key) mirror.Objects {
	c.mu.RLock()
	defer c.mu.RUnlock()
	h := c.byKey[key]
	if h == nil {
		return mirror.Objects{}
	}
	return mirror.Objects{Service: h.service, Slices: slices.Clone(h.slices)}
}

// Keys returns the keys of which the central cluster holds anything.
func (c *central) Keys() []mirror.Key {
	c.mu.RLock()
	defer c.mu.RUnlock()
	keys := make([]mirror.Key, 0, len(c.byKey))
	for k := range c.byKey {
		keys = append(keys, k)
	}
	return keys
}

// ServiceKeys returns the keys that have a Service.
func (c *central) ServiceKeys() []mirror.Key {
	c.mu.RLock()
	defer c.mu.RUnlock()
	keys := make([]mirror.Key, 0, len(c.services))
	for k, h := range c.byKey {
		if h.service != nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// Counts returns the number of Services and of endpoints.
func (c *central) Counts() (services, endpoints int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.services), c.endpoints
}

// Put takes in an object that a write or a read of the API server answered with,
// unless a newer one is already known.
func (c *central) Put(o metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch o := o.(type) {
	case *corev1.Service:
		put(c, c.services, mirror.TrimService(o))
	case *discoveryv1.EndpointSlice:
		put(c, c.slices, mirror.TrimSlice(o))
	}
}

// Drop forgets an object that the API server says is gone.
func (c *central) Drop(o metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch o := o.(type) {
	case *corev1.Service:
		drop(c, c.services, o)
	case *discoveryv1.EndpointSlice:
		drop(c, c.slices, o)
	}
}

// object is one of the two kinds that are mirrored.
type object interface {
	*corev1.Service | *discoveryv1.EndpointSlice
	metav1.Object
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// put stores o and returns its key; the caller holds c.mu.
func put[T object](c *central, objects map[types.NamespacedName]T, o T) (mirror.Key, bool) {
	backend, key, ok := mirror.Owner(o)
	if !ok || backend != c.backend {
		// Not ours, or no longer: someone changed its labels.
		drop(c, objects, o)
		return key, false
	}
	name := nameOf(o)
	if old, ok := objects[name]; ok {
		if asNew(old, o) {
			return key, false
		}
		unlink(c, old)
	}
	objects[name] = o
	link(c, key, o)
	return key, true
}

// drop removes o's namesake if it is the same object; the caller holds c.mu.
func drop[T object](c *central, objects map[types.NamespacedName]T, o T) (mirror.Key, bool) {
	name := nameOf(o)
	old, ok := objects[name]
	if !ok || old.GetUID() != o.GetUID() {
		return mirror.Key{}, false
	}
	_, key, _ := mirror.Owner(old)
	delete(objects, name)
	unlink(c, old)
	return key, true
}

func link(c *central, key mirror.Key, o metav1.Object) {
	h := c.byKey[key]
	if h == nil {
		h = &entry{}
		c.byKey[key] = h
	}
	switch o := o.(type) {
	case *corev1.Service:
		h.service = o
	case *discoveryv1.EndpointSlice:
		h.slices = append(h.slices, o)
		c.endpoints += len(o.Endpoints)
	}
}

func unlink(c *central, o metav1.Object) {
	_, key, _ := mirror.Owner(o)
	h := c.byKey[key]
	if h == nil {
		return
	}
	switch o := o.(type) {
	case *corev1.Service:
		h.service = nil
	case *discoveryv1.EndpointSlice:
		h.slices = slices.DeleteFunc(h.slices, func(s *discoveryv1.EndpointSlice) bool { return s == o })
		c.endpoints -= len(o.Endpoints)
	}
	if h.service == nil && len(h.slices) == 0 {
		delete(c.byKey, key)
	}
}

// asNew says whether a is the same object as b, as b is or later.
// Versions of one resource are comparable (KEP-5504); where a server's aren't, the last word wins.
func asNew(a, b metav1.Object) bool {
	if a.GetUID() != b.GetUID() {
		return false
	}
	cmp, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && cmp >= 0
}

// centralStore is the receiving end of one resource's reflector.
type centralStore[T object] struct {
	c       *central
	kind    string
	trim    func(T) T
	objects map[types.NamespacedName]T
}

func (s *centralStore[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		t, ok := o.(T)
		if !ok {
			return nil, fmt.Errorf("%s: unexpected %T in a listing", s.kind, o)
		}
		return s.trim(t), nil
	}
}

func (s *centralStore[T]) Add(o any) error { return s.Update(o) }

func (s *centralStore[T]) Update(o any) error {
	t, ok := o.(T)
	if !ok {
		return fmt.Errorf("%s: unexpected %T in a watch", s.kind, o)
	}
	s.c.mu.Lock()
	key, changed := put(s.c, s.objects, s.trim(t))
	s.c.mu.Unlock()
	if changed {
		s.c.changed(false, key)
	}
	return nil
}

func (s *centralStore[T]) Delete(o any) error {
	t, ok := o.(T)
	if !ok {
		return fmt.Errorf("%s: unexpected %T in a watch", s.kind, o)
	}
	s.c.mu.Lock()
	key, changed := drop(s.c, s.objects, t)
	s.c.mu.Unlock()
	if changed {
		s.c.changed(false, key)
	}
	return nil
}

func (s *centralStore[T]) Replace(list []any, _ string) error {
	s.c.mu.Lock()
	seen := make(map[types.NamespacedName]bool, len(list))
	var keys []mirror.Key
	for _, o := range list {
		t, ok := o.(T)
		if !ok {
			s.c.mu.Unlock()
			return fmt.Errorf("%s: unexpected %T in a listing", s.kind, o)
		}
		seen[nameOf(t)] = true
		if key, changed := put(s.c, s.objects, s.trim(t)); changed {
			keys = append(keys, key)
		}
	}
	for name, o := range s.objects {
		if !seen[name] {
			if key, changed := drop(s.c, s.objects, o); changed {
				keys = append(keys, key)
			}
		}
	}
	if s.c.listed[s.kind] = true; len(s.c.listed) == 2 {
		select {
		case <-s.c.complete:
		default:
			close(s.c.complete)
		}
	}
	s.c.mu.Unlock()
	s.c.changed(true, keys...)
	return nil
}

func (s *centralStore[T]) Resync() error { return nil }

type (
	listFunc  = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// reflect keeps store up to date with what selector selects until ctx ends.
func reflect(ctx context.Context, kind runtime.Object, store cache.ReflectorStore, selector string, list listFunc, follow watchFunc) {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			// Consistent reads only: an older listing would bring deleted objects back.
			o.ResourceVersion, o.ResourceVersionMatch = "", ""
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return follow(ctx, o)
		},
	}
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Cap: 5 * time.Second, Steps: 6, Factor: 2, Jitter: 0.5}
	cache.NewReflectorWithOptions(lw, kind, store, cache.ReflectorOptions{Backoff: &backoff}).RunWithContext(ctx)
}
