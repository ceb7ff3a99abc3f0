package central

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// ViewOptions are what a View needs.
type ViewOptions struct {
	Client kubernetes.Interface
	Owner  Owner
	// Update has the view changed: it calls change once, before it returns, which makes the
	// change and returns the keys that it touches. relisted says that a listing found them.
	Update func(relisted bool, change func() []mirror.Key)
	// Answer, if it isn't nil, has the view changed by the answer to an own write, as Update does.
	Answer func(change func() []mirror.Key)
}

// View is what an owner has in the central cluster: its Services and EndpointSlices,
// trimmed, by key. Watches feed it, and so do the answers to the owner's own writes,
// whichever is newer, so that a second change of a key needn't wait for the watch.
type View struct {
	options ViewOptions

	mu       sync.RWMutex
	services map[types.NamespacedName]*corev1.Service
	slices   map[types.NamespacedName]*discoveryv1.EndpointSlice
	byKey    map[mirror.Key]*entry
	// answers are those of objects that an admission policy makes differ from what was sent.
	answers          mirror.Answers
	endpoints, ready int               // in slices
	highest          map[string]string // the highest resourceVersion that was seen, by kind
	listed           map[string]bool
	// dropped are the objects that were deleted since a listing of their kind began.
	dropped  map[string]map[types.UID]bool
	complete chan struct{}
	relist   map[string]context.CancelFunc // ends the watch of a kind
}

// entry is what the central cluster holds for one key.
type entry struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
	ready   int
}

// NewView returns a View that has read nothing yet.
func NewView(o ViewOptions) *View {
	return &View{
		options:  o,
		services: map[types.NamespacedName]*corev1.Service{},
		slices:   map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		byKey:    map[mirror.Key]*entry{},
		answers:  mirror.Answers{},
		highest:  map[string]string{},
		listed:   map[string]bool{},
		dropped:  map[string]map[types.UID]bool{},
		complete: make(chan struct{}),
		relist:   map[string]context.CancelFunc{},
	}
}

// Complete is closed when both kinds of object have been listed.
func (v *View) Complete() <-chan struct{} { return v.complete }

// Objects returns what the central cluster holds for a key.
func (v *View) Objects(key mirror.Key) mirror.Objects {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e := v.byKey[key]
	if e == nil {
		return mirror.Objects{}
	}
	return mirror.Objects{Service: e.service, Slices: slices.Clone(e.slices), Answers: v.answersOf(e)}
}

func (v *View) answersOf(e *entry) mirror.Answers {
	if len(v.answers) == 0 {
		return nil
	}
	answers := mirror.Answers{}
	add := func(o metav1.Object) {
		if a, ok := v.answers[o.GetUID()]; ok {
			answers[o.GetUID()] = a
		}
	}
	if e.service != nil {
		add(e.service)
	}
	for _, es := range e.slices {
		add(es)
	}
	return answers
}

// Keys returns the keys of which the central cluster holds anything.
func (v *View) Keys() []mirror.Key {
	v.mu.RLock()
	defer v.mu.RUnlock()
	keys := make([]mirror.Key, 0, len(v.byKey))
	for k := range v.byKey {
		keys = append(keys, k)
	}
	return keys
}

// Holding returns what of a key matters to the guards.
func (v *View) Holding(key mirror.Key) mirror.Holding {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e := v.byKey[key]
	if e == nil {
		return mirror.Holding{}
	}
	return mirror.Holding{Service: e.service != nil, Ready: e.ready}
}

// Counts returns the number of Services, of endpoints, and of those that are ready.
func (v *View) Counts() (services, endpoints, ready int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.services), v.endpoints, v.ready
}

// Put takes in an object that a write or a read of the API server answered with, unless a
// newer one is already known.
func (v *View) Put(o metav1.Object) {
	v.answer(func() []mirror.Key {
		switch o := o.(type) {
		case *corev1.Service:
			v.see(services, o.ResourceVersion)
			return put(v, v.services, mirror.TrimService(o), false)
		case *discoveryv1.EndpointSlice:
			v.see(endpointSlices, o.ResourceVersion)
			return put(v, v.slices, mirror.TrimSlice(o), false)
		}
		return nil
	})
}

// Drop forgets an object that the API server says is gone.
func (v *View) Drop(o metav1.Object) {
	v.answer(func() []mirror.Key {
		switch o := o.(type) {
		case *corev1.Service:
			v.noteDropped(services, o.UID)
			return drop(v, v.services, o)
		case *discoveryv1.EndpointSlice:
			v.noteDropped(endpointSlices, o.UID)
			return drop(v, v.slices, o)
		}
		return nil
	})
}

// answer makes a change that an answer tells of.
func (v *View) answer(change func() []mirror.Key) {
	locked := func() []mirror.Key {
		v.mu.Lock()
		defer v.mu.Unlock()
		return change()
	}
	if v.options.Answer == nil {
		locked()
		return
	}
	v.options.Answer(locked)
}

// noteDropped keeps a listing that is under way from bringing an object back. The caller holds v.mu.
func (v *View) noteDropped(kind string, uid types.UID) {
	if listing := v.dropped[kind]; listing != nil {
		listing[uid] = true
	}
}

// Answered records what the API server made of a write, or that it made nothing of it.
func (v *View) Answered(uid types.UID, a mirror.Answer, differs bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if differs {
		v.answers[uid] = a
	} else {
		delete(v.answers, uid)
	}
}

// Current returns the object of the view that has the kind and name of o, or nil.
func (v *View) Current(o metav1.Object) metav1.Object {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch o.(type) {
	case *corev1.Service:
		if s, ok := v.services[nameOf(o)]; ok {
			return s
		}
	case *discoveryv1.EndpointSlice:
		if es, ok := v.slices[nameOf(o)]; ok {
			return es
		}
	}
	return nil
}

// object is one of the two kinds that are mirrored.
type object interface {
	*corev1.Service | *discoveryv1.EndpointSlice
	metav1.Object
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// put stores o, unless it is no newer than what is known and force isn't set, and returns
// the keys that this touches. The caller holds v.mu.
func put[T object](v *View, objects map[types.NamespacedName]T, o T, force bool) []mirror.Key {
	key, ok := v.options.Owner.KeyOf(o)
	if !ok {
		// No longer the owner's: someone changed what it is known by.
		return dropName(v, objects, nameOf(o))
	}
	name, touched := nameOf(o), []mirror.Key{key}
	if old, ok := objects[name]; ok {
		same := old.GetUID() == o.GetUID() && old.GetResourceVersion() == o.GetResourceVersion()
		if same || !force && asNew(old, o) {
			return nil
		}
		if was, _ := v.options.Owner.KeyOf(old); was != key {
			touched = append(touched, was)
		}
		unlink(v, old)
		if old.GetUID() != o.GetUID() {
			delete(v.answers, old.GetUID())
		}
	}
	objects[name] = o
	link(v, key, o)
	return touched
}

// drop removes o's namesake if it is the same object. The caller holds v.mu.
func drop[T object](v *View, objects map[types.NamespacedName]T, o T) []mirror.Key {
	old, ok := objects[nameOf(o)]
	if !ok || old.GetUID() != o.GetUID() {
		return nil
	}
	return dropName(v, objects, nameOf(o))
}

func dropName[T object](v *View, objects map[types.NamespacedName]T, name types.NamespacedName) []mirror.Key {
	old, ok := objects[name]
	if !ok {
		return nil
	}
	key, _ := v.options.Owner.KeyOf(old)
	delete(objects, name)
	delete(v.answers, old.GetUID())
	unlink(v, old)
	return []mirror.Key{key}
}

func link(v *View, key mirror.Key, o metav1.Object) {
	e := v.byKey[key]
	if e == nil {
		e = &entry{}
		v.byKey[key] = e
	}
	switch o := o.(type) {
	case *corev1.Service:
		e.service = o
	case *discoveryv1.EndpointSlice:
		e.slices = append(e.slices, o)
		v.count(e, o, 1)
	}
}

func unlink(v *View, o metav1.Object) {
	key, _ := v.options.Owner.KeyOf(o)
	e := v.byKey[key]
	if e == nil {
		return
	}
	switch o := o.(type) {
	case *corev1.Service:
		e.service = nil
	case *discoveryv1.EndpointSlice:
		e.slices = slices.DeleteFunc(e.slices, func(es *discoveryv1.EndpointSlice) bool { return es == o })
		v.count(e, o, -1)
	}
	if e.service == nil && len(e.slices) == 0 {
		delete(v.byKey, key)
	}
}

// count adds a slice's endpoints to the sums, or with -1 takes them away.
func (v *View) count(e *entry, es *discoveryv1.EndpointSlice, sign int) {
	ready := sign * mirror.ReadyEndpoints(es.Endpoints)
	e.ready += ready
	v.ready += ready
	v.endpoints += sign * len(es.Endpoints)
}
