package kubernetes

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	runtimego "runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// fake answers lists and watches as an API server does, and can be made to fail as no API server can be made to.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	version  int
	objects  map[string]map[string]runtime.Object // by resource and key
	watchers map[chan event]string                // of a resource
	log      map[string][]event                   // by resource
	pageSize int                                  // the most objects of a page; 0: what is asked for
	// fault answers a request in the server's place where it returns true.
	fault func(http.ResponseWriter, *http.Request) bool
}

type event struct {
	Type   string         `json:"type"`
	Object runtime.Object `json:"object"`
}

var kindsOf = map[string]metav1.TypeMeta{
	"services":       {Kind: "Service", APIVersion: "v1"},
	"nodes":          {Kind: "Node", APIVersion: "v1"},
	"endpointslices": {Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
}

func newFake(t *testing.T) *fake {
	f := &fake{version: 1, objects: map[string]map[string]runtime.Object{}, watchers: map[chan event]string{}, log: map[string][]event{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(f.CloseClientConnections)
	t.Cleanup(func() { go f.Close() })
	return f
}

// options are those of a Source that reads the fake, with short times.
func (f *fake) options(t *testing.T) Options {
	config, err := RESTConfig(f.kubeconfig(), "gimbal/test", upstream.Allow{})
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Config:         config,
		Limits:         upstream.DefaultLimits(),
		Logger:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		ProbeInterval:  100 * time.Millisecond,
		RequestTimeout: 2 * time.Second,
		StreamTimeout:  2 * time.Second,
	}
}

func (f *fake) kubeconfig() []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	b, _ := json.Marshal(map[string]any{
		"current-context": "c",
		"contexts":        []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "k", "user": "u"}}},
		"clusters":        []any{map[string]any{"name": "k", "cluster": map[string]any{"server": f.URL, "certificate-authority-data": ca}}},
		"users":           []any{map[string]any{"name": "u", "user": map[string]any{"token": "secret"}}},
	})
	return b
}

// inject sets the fault; nil heals.
func (f *fake) inject(fault func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func resourceOf(o runtime.Object) (string, metav1.Object) {
	switch o := o.(type) {
	case *corev1.Service:
		return "services", o
	case *corev1.Node:
		return "nodes", o
	case *discoveryv1.EndpointSlice:
		return "endpointslices", o
	}
	panic(fmt.Sprintf("%T", o))
}

// put creates or updates objects.
func (f *fake) put(objects ...runtime.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range objects {
		resource, m := resourceOf(o)
		key := m.GetNamespace() + "/" + m.GetName()
		if f.objects[resource] == nil {
			f.objects[resource] = map[string]runtime.Object{}
		}
		typ := "ADDED"
		if f.objects[resource][key] != nil {
			typ = "MODIFIED"
		}
		f.version++
		m.SetResourceVersion(strconv.Itoa(f.version))
		f.objects[resource][key] = o
		f.sendLocked(resource, event{typ, o})
	}
}

func (f *fake) remove(o runtime.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resource, m := resourceOf(o)
	delete(f.objects[resource], m.GetNamespace()+"/"+m.GetName())
	f.version++
	m.SetResourceVersion(strconv.Itoa(f.version))
	f.sendLocked(resource, event{"DELETED", o})
}

// forget drops an object without telling the watches.
func (f *fake) forget(o runtime.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resource, m := resourceOf(o)
	delete(f.objects[resource], m.GetNamespace()+"/"+m.GetName())
	f.version++
}

// gone tells the watches of a resource that they have lost their place.
func (f *fake) gone(t *testing.T, resource string) {
	t.Helper()
	f.awaitWatch(t, resource)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sendLocked(resource, event{"ERROR", &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Reason: metav1.StatusReasonExpired, Code: http.StatusGone,
	}})
}

// awaitWatch returns when a resource is being watched.
func (f *fake) awaitWatch(t *testing.T, resource string) {
	t.Helper()
	for deadline := time.Now().Add(upstreamtest.Limit); ; {
		f.mu.Lock()
		watched := slices.Contains(slices.Collect(maps.Values(f.watchers)), resource)
		f.mu.Unlock()
		if watched {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no watch of %s in %v", resource, upstreamtest.Limit)
		}
		runtimego.Gosched()
	}
}

func (f *fake) sendLocked(resource string, e event) {
	if e.Type != "ERROR" {
		f.log[resource] = append(f.log[resource], e)
	}
	for w, of := range f.watchers {
		if of == resource {
			w <- e
		}
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if isWatch(r) {
		f.serveWatch(w, r)
	} else {
		f.serveList(w, r)
	}
}

func isWatch(r *http.Request) bool  { return r.URL.Query().Get("watch") == "true" }
func isStream(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") == "true" }
func isProbe(r *http.Request) bool  { return r.URL.Query().Get("limit") == "1" }

func (f *fake) serveList(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resource := path.Base(r.URL.Path)
	keys := slices.Sorted(maps.Keys(f.objects[resource]))
	start, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	n, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	if f.pageSize > 0 {
		n = min(n, f.pageSize)
	}
	end := min(start+n, len(keys))
	metadata := map[string]any{"resourceVersion": strconv.Itoa(f.version)}
	if end < len(keys) {
		metadata["continue"] = strconv.Itoa(end)
	}
	items := []runtime.Object{}
	for _, k := range keys[start:end] {
		items = append(items, f.objects[resource][k])
	}
	typ := kindsOf[resource]
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": typ.Kind + "List", "apiVersion": typ.APIVersion, "metadata": metadata, "items": items,
	})
}

func (f *fake) serveWatch(w http.ResponseWriter, r *http.Request) {
	resource := path.Base(r.URL.Path)
	events := make(chan event, 10_000)
	f.mu.Lock()
	if isStream(r) {
		for _, k := range slices.Sorted(maps.Keys(f.objects[resource])) {
			events <- event{"ADDED", f.objects[resource][k]}
		}
		events <- f.bookmark(resource)
	} else {
		since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
		for _, e := range f.log[resource] {
			_, m := resourceOf(e.Object)
			if version, _ := strconv.Atoi(m.GetResourceVersion()); version > since {
				events <- e
			}
		}
	}
	f.watchers[events] = resource
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, events)
		f.mu.Unlock()
	}()
	send(w, r, events)
}

func send(w http.ResponseWriter, r *http.Request, events <-chan event) {
	flusher := w.(http.Flusher)
	flusher.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
			flusher.Flush()
		}
	}
}

func (f *fake) bookmark(resource string) event {
	typ := kindsOf[resource]
	m := metav1.PartialObjectMetadata{TypeMeta: typ}
	m.ResourceVersion = strconv.Itoa(f.version)
	m.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	return event{"BOOKMARK", &m}
}

// streams has streaming lists of a resource answered by what feed gives, and counts them.
func (f *fake) streams(resource string, feed func(context.Context, chan<- event)) *atomic.Int32 {
	var n atomic.Int32
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if !isStream(r) || path.Base(r.URL.Path) != resource {
			return false
		}
		n.Add(1)
		events := make(chan event)
		go feed(r.Context(), events)
		send(w, r, events)
		return true
	})
	return &n
}

// give sends an event, unless the request ends.
func give(ctx context.Context, events chan<- event, e event) {
	select {
	case <-ctx.Done():
	case events <- e:
	}
}

// noStreams refuses streaming lists, as API servers before 1.34 do.
func noStreams(w http.ResponseWriter, r *http.Request) bool {
	if isStream(r) {
		status(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
		return true
	}
	return false
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Reason: reason, Code: int32(code), Message: string(reason),
	})
}

// hang blocks until the client goes away or release is closed.
func hang(release <-chan struct{}) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return false
	}
}

// run runs a Source on the fake until the test ends.
func run(t *testing.T, o Options) (*Source, *upstreamtest.Recorder) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, upstreamtest.Run(t, s)
}

func newService(name string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   kindsOf["services"],
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func newSlice(name, service string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta: kindsOf["endpointslices"],
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func key(name string) mirror.Key { return mirror.Key{Namespace: "team", Name: name} }
