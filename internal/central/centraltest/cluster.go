// Package centraltest is a central cluster in memory: an API server that keeps the few kinds
// of object which the engine reads and writes, with versions, UIDs, preconditions and
// watches, and that a test can have refuse, change, hang or forget.
package centraltest

import (
	"context"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/projectcontour/gimbal/api/v1alpha1"
)

// Request is what the cluster was asked for.
type Request struct {
	// Verb is get, list, watch, create, update, patch or delete.
	Verb, Resource, Subresource string
	Namespace, Name             string
	DryRun                      bool
}

// Cluster is a central cluster. It is safe for concurrent use.
type Cluster struct {
	server *httptest.Server
	scheme *runtime.Scheme
	decode runtime.Decoder

	mu       sync.Mutex
	version  int // the highest of any object
	uids     int
	objects  map[string]map[string]*unstructured.Unstructured // by resource, then namespace/name
	log      []event
	more     chan struct{} // closed at the next event
	requests []Request
	missing  map[string]bool // resources that the cluster doesn't serve
	fault    func(context.Context, Request) error
	mutate   func(resource string, o *unstructured.Unstructured)
}

// New starts a Cluster, which ends with the test.
func New(t *testing.T) *Cluster {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cluster{
		scheme:  s,
		decode:  serializer.NewCodecFactory(s).UniversalDeserializer(),
		objects: map[string]map[string]*unstructured.Unstructured{},
		more:    make(chan struct{}),
		missing: map[string]bool{},
	}
	c.server = httptest.NewUnstartedServer(c)
	c.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	c.server.Start()
	t.Cleanup(func() { c.server.CloseClientConnections(); c.server.Close() })
	return c
}

// Config reaches the cluster.
func (c *Cluster) Config() *rest.Config { return &rest.Config{Host: c.server.URL, QPS: -1} }

// Client returns a client of the cluster that speaks protobuf, as the engine does.
func (c *Cluster) Client(t *testing.T) kubernetes.Interface {
	t.Helper()
	config := c.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Add creates objects, and in place of a namesake replaces it.
func (c *Cluster) Add(t *testing.T, objects ...runtime.Object) {
	t.Helper()
	for _, o := range objects {
		u, err := c.generic(o)
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.put(resourceOf(u.GetKind()), u)
		c.mu.Unlock()
	}
}

// AddNamespaces creates namespaces.
func (c *Cluster) AddNamespaces(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		c.Add(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
}

// Remove deletes an object, whatever finalizers it has.
func (c *Cluster) Remove(resource, namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[resource][namespace+"/"+name]; o != nil {
		c.remove(resource, o)
	}
}

// Inject has each request judged before it is served: an error is its answer, and one that
// isn't an API status breaks the connection. nil heals.
func (c *Cluster) Inject(fault func(context.Context, Request) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

// Mutate has each object changed on its way in, as an admission policy does. nil ends that.
func (c *Cluster) Mutate(mutate func(resource string, o *unstructured.Unstructured)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mutate = mutate
}

// Without has a resource not served.
func (c *Cluster) Without(resource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing[resource] = true
}

// Requests returns what the cluster has been asked for since it began or Forget was called.
func (c *Cluster) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Writes returns those requests that were to change a Service or an EndpointSlice.
func (c *Cluster) Writes() []Request {
	return slices.DeleteFunc(c.Requests(), func(r Request) bool {
		return r.Resource != "services" && r.Resource != "endpointslices" || r.DryRun ||
			slices.Contains([]string{"get", "list", "watch"}, r.Verb)
	})
}

// Forget forgets the requests so far.
func (c *Cluster) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// Backup is the state of a Cluster at one moment.
type Backup struct {
	version int
	objects map[string]map[string]*unstructured.Unstructured
}

// Backup returns the cluster's state.
func (c *Cluster) Backup() Backup {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := Backup{version: c.version, objects: map[string]map[string]*unstructured.Unstructured{}}
	for resource, objects := range c.objects {
		b.objects[resource] = maps.Clone(objects)
	}
	return b
}

// Restore puts the cluster back to an earlier state, its versions included. Watches go on
// at the version at which they are, and hear nothing of it.
func (c *Cluster) Restore(b Backup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.objects = b.version, map[string]map[string]*unstructured.Unstructured{}
	for resource, objects := range b.objects {
		c.objects[resource] = maps.Clone(objects)
	}
	c.log = slices.DeleteFunc(c.log, func(e event) bool { return e.version > b.version })
}
