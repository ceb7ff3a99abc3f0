package central

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// cluster is a central cluster behind a fake client: it keeps versions, UIDs and
// preconditions as an API server does, and can be made to fail, to lag and to go back.
type cluster struct {
	client *fake.Clientset

	mu       sync.Mutex
	version  int
	uid      int
	objects  map[string]map[string]runtime.Object // by resource and namespaced name
	watchers map[string][]*watch.RaceFreeFakeWatcher
	writes   []string
	lists    map[string]int
	// deaf has watches hear nothing.
	deaf bool
	// fault, if any, answers an action with an error.
	fault func(clienttesting.Action) error
	// policy, if any, changes an object on its way in.
	policy func(runtime.Object)
	// listing, if any, is called after a listing was read and before it is answered.
	listing func(resource string)
}

func newCluster() *cluster {
	c := &cluster{
		client: fake.NewSimpleClientset(), version: 100,
		objects: map[string]map[string]runtime.Object{}, watchers: map[string][]*watch.RaceFreeFakeWatcher{}, lists: map[string]int{},
	}
	c.client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		o, err := c.react(a)
		return true, o, err
	})
	c.client.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		w := watch.NewRaceFreeFake()
		c.watchers[a.GetResource().Resource] = append(c.watchers[a.GetResource().Resource], w)
		return true, w, nil
	})
	return c
}

func (c *cluster) react(a clienttesting.Action) (runtime.Object, error) {
	resource := a.GetResource().Resource
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	if fault != nil {
		if err := fault(a); err != nil {
			return nil, err
		}
	}
	switch a := a.(type) {
	case clienttesting.ListActionImpl:
		return c.answerList(resource, a)
	case clienttesting.GetActionImpl:
		return c.get(resource, a.Namespace, a.Name)
	case clienttesting.CreateActionImpl:
		return c.create(resource, a)
	case clienttesting.UpdateActionImpl:
		return c.update(resource, a.Object, a.UpdateOptions.DryRun)
	case clienttesting.PatchActionImpl:
		return c.patch(resource, a)
	case clienttesting.DeleteActionImpl:
		return nil, c.delete(resource, a)
	}
	return nil, fmt.Errorf("unexpected %T", a)
}

func (c *cluster) answerList(resource string, a clienttesting.ListActionImpl) (runtime.Object, error) {
	c.mu.Lock()
	selector, err := labels.Parse(a.ListOptions.LabelSelector)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	var list runtime.Object
	switch resource {
	case "services":
		list = &corev1.ServiceList{}
	case "endpointslices":
		list = &discoveryv1.EndpointSliceList{}
	case "nodes":
		list = &corev1.NodeList{}
	case "servicecidrs":
		list = &networkingv1.ServiceCIDRList{}
	}
	names := slices.Sorted(maps.Keys(c.objects[resource]))
	first, _ := strconv.Atoi(a.ListOptions.Continue)
	var items []runtime.Object
	next := ""
	for i, name := range names {
		o := c.objects[resource][name]
		if i < first || !selector.Matches(labels.Set(accessor(o).GetLabels())) {
			continue
		}
		if limit := int(a.ListOptions.Limit); limit > 0 && len(items) == limit {
			next = strconv.Itoa(i)
			break
		}
		items = append(items, o.DeepCopyObject())
	}
	_ = meta.SetList(list, items)
	m, _ := meta.ListAccessor(list)
	m.SetResourceVersion(strconv.Itoa(c.version))
	m.SetContinue(next)
	c.lists[resource]++
	listing := c.listing
	c.mu.Unlock()
	if listing != nil {
		listing(resource)
	}
	return list, nil
}

func (c *cluster) get(resource, namespace, name string) (runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[resource][namespace+"/"+name]; o != nil {
		return o.DeepCopyObject(), nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

func (c *cluster) create(resource string, a clienttesting.CreateActionImpl) (runtime.Object, error) {
	o := a.Object.DeepCopyObject()
	if _, err := c.get(resource, a.Namespace, accessor(o).GetName()); err == nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: resource}, accessor(o).GetName())
	}
	if c.policy != nil {
		c.policy(o)
	}
	c.note("create", resource, a.Namespace, accessor(o).GetName())
	return c.put(o), nil
}

func (c *cluster) update(resource string, o runtime.Object, dryRun []string) (runtime.Object, error) {
	m := accessor(o)
	known, err := c.get(resource, m.GetNamespace(), m.GetName())
	if err != nil {
		return nil, err
	}
	if k := accessor(known); m.GetUID() != k.GetUID() || m.GetResourceVersion() != k.GetResourceVersion() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: resource}, m.GetName(), fmt.Errorf("version"))
	}
	o = o.DeepCopyObject()
	if c.policy != nil {
		c.policy(o)
	}
	if len(dryRun) > 0 {
		return o, nil
	}
	c.note("update", resource, m.GetNamespace(), m.GetName())
	return c.put(o), nil
}

func (c *cluster) patch(resource string, a clienttesting.PatchActionImpl) (runtime.Object, error) {
	known, err := c.get(resource, a.Namespace, a.Name)
	if err != nil {
		return nil, err
	}
	s := known.(*corev1.Service)
	var p struct {
		Metadata struct {
			UID             types.UID
			ResourceVersion string
			Labels          map[string]*string
		}
	}
	if err := json.Unmarshal(a.Patch, &p); err != nil {
		return nil, err
	}
	s.UID, s.ResourceVersion = p.Metadata.UID, p.Metadata.ResourceVersion
	for k, v := range p.Metadata.Labels {
		if v == nil {
			delete(s.Labels, k)
		} else {
			s.Labels[k] = *v
		}
	}
	return c.update(resource, s, a.PatchOptions.DryRun)
}

func (c *cluster) delete(resource string, a clienttesting.DeleteActionImpl) error {
	known, err := c.get(resource, a.Namespace, a.Name)
	if err != nil {
		return err
	}
	if p, k := a.DeleteOptions.Preconditions, accessor(known); p == nil || *p.UID != k.GetUID() || *p.ResourceVersion != k.GetResourceVersion() {
		return apierrors.NewConflict(schema.GroupResource{Resource: resource}, a.Name, fmt.Errorf("precondition"))
	}
	c.note("delete", resource, a.Namespace, a.Name)
	c.remove(known)
	return nil
}

func (c *cluster) note(verb, resource, namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, strings.Join([]string{verb, resource, namespace + "/" + name}, " "))
}

func resourceOf(o runtime.Object) string {
	switch o.(type) {
	case *corev1.Service:
		return "services"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	case *corev1.Node:
		return "nodes"
	}
	return "servicecidrs"
}

func accessor(o any) metav1.Object {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return m
}

// put stores a copy of an object with a new version, tells the watches, and returns it.
func (c *cluster) put(o runtime.Object) runtime.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store(o, true)
}

func (c *cluster) store(o runtime.Object, tell bool) runtime.Object {
	o = o.DeepCopyObject()
	resource, m := resourceOf(o), accessor(o)
	c.version++
	m.SetResourceVersion(strconv.Itoa(c.version))
	name := m.GetNamespace() + "/" + m.GetName()
	if c.objects[resource] == nil {
		c.objects[resource] = map[string]runtime.Object{}
	}
	kind := watch.Modified
	if known := c.objects[resource][name]; known == nil {
		c.uid++
		m.SetUID(types.UID(fmt.Sprint("uid-", c.uid)))
		kind = watch.Added
	} else {
		m.SetUID(accessor(known).GetUID())
	}
	c.objects[resource][name] = o
	if tell {
		c.tell(kind, o)
	}
	return o.DeepCopyObject()
}

// remove removes an object and tells the watches.
func (c *cluster) remove(o runtime.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	resource, m := resourceOf(o), accessor(o)
	gone := c.objects[resource][m.GetNamespace()+"/"+m.GetName()].DeepCopyObject()
	delete(c.objects[resource], m.GetNamespace()+"/"+m.GetName())
	accessor(gone).SetResourceVersion(strconv.Itoa(c.version))
	c.tell(watch.Deleted, gone)
}

func (c *cluster) tell(kind watch.EventType, o runtime.Object) {
	if c.deaf {
		return
	}
	for _, w := range c.watchers[resourceOf(o)] {
		if !w.IsStopped() {
			w.Action(kind, o.DeepCopyObject())
		}
	}
}

// backup returns what restore brings back.
func (c *cluster) backup() (restore func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	version, objects := c.version, map[string]map[string]runtime.Object{}
	for resource, byName := range c.objects {
		objects[resource] = maps.Clone(byName)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.version, c.objects = version, objects
	}
}

func (c *cluster) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *cluster) written() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

func (c *cluster) listings(resource string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists[resource]
}

// watched says whether watches of all the resources are open.
func (c *cluster) watched(resources ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(resources, func(r string) bool {
		return !slices.ContainsFunc(c.watchers[r], func(w *watch.RaceFreeFakeWatcher) bool { return !w.IsStopped() })
	})
}

var web = mirror.Key{Namespace: "team-a", Name: "web"}

func ownedMeta(key mirror.Key, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: key.Namespace, Name: name,
		Labels:      map[string]string{mirror.LabelBackend: "us-east", mirror.LabelService: key.Name},
		Annotations: map[string]string{mirror.AnnotationSource: "us-east/" + key.String()},
	}
}

func service(key mirror.Key) *corev1.Service {
	return &corev1.Service{ObjectMeta: ownedMeta(key, mirror.ServiceName("us-east", key))}
}

// slice is an EndpointSlice with endpoints of which the first ones are ready.
func slice(key mirror.Key, name string, endpoints, ready int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: ownedMeta(key, name)}
	for i := range endpoints {
		isReady := i < ready
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.0.0.%d", i+1)},
			Conditions: discoveryv1.EndpointConditions{Ready: &isReady},
		})
	}
	return s
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(10 * time.Second); !is(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}
