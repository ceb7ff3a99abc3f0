package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

const namespace = "gimbal-discovery"

func service(name string, ready int) *mirror.Service {
	s := &mirror.Service{
		Key:   mirror.Key{Namespace: "team-a", Name: name},
		Ports: []mirror.Port{{Name: "http", Number: 80, Protocol: "TCP"}},
		Slices: []mirror.Slice{{
			Name: name + "-1", AddressType: discoveryv1.AddressTypeIPv4, Ports: []mirror.Port{{Name: "http", Number: 8080, Protocol: "TCP"}},
		}},
	}
	for i := range ready {
		s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, mirror.Endpoint{Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}, Ready: true, Serving: true})
	}
	return s
}

func many(n, ready int) (all []*mirror.Service, keys []mirror.Key) {
	for i := range n {
		s := service(fmt.Sprintf("web-%02d", i), ready)
		all, keys = append(all, s), append(keys, s.Key)
	}
	return all, keys
}

// engine is the engine with one upstream, us-east, and a central cluster.
type engine struct {
	cluster *centraltest.Cluster
	client  client.Client

	mu       sync.Mutex
	services []*mirror.Service
	identity string
	made     []*upstreamtest.Source // the sources so far
	begins   func(upstream.Observer)
	making   func() // called when a source is made
	broken   error
}

// newEngine returns an engine that doesn't run yet.
func newEngine(t *testing.T, services ...*mirror.Service) *engine {
	t.Helper()
	e := &engine{cluster: centraltest.New(t), services: services, identity: "alpha", begins: upstream.Observer.Complete}
	s, err := discovery.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if e.client, err = client.New(e.cluster.Config(), client.Options{Scheme: s}); err != nil {
		t.Fatal(err)
	}
	e.cluster.AddNamespaces(t, namespace, "team-a")
	e.addUpstream(t, "us-east")
	return e
}

func (e *engine) addUpstream(t *testing.T, name string) {
	t.Helper()
	uc := &v1alpha1.UpstreamCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	uc.Spec.Kubernetes = &v1alpha1.KubernetesUpstream{KubeconfigSecret: v1alpha1.SecretKey{Name: name}}
	e.cluster.Add(t, uc, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{"kubeconfig": []byte("x")},
	})
}

func (e *engine) newSource() (upstream.Source, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != nil {
		return nil, e.broken
	}
	if e.making != nil {
		e.making()
	}
	s := upstreamtest.NewSource(e.identity)
	s.Put(e.services...)
	s.Begins(e.begins)
	e.made = append(e.made, s)
	return s, nil
}

// source waits for the n-th source that is made, from 1.
func (e *engine) source(t *testing.T, n int) *upstreamtest.Source {
	t.Helper()
	var s *upstreamtest.Source
	upstreamtest.Eventually(t, fmt.Sprintf("source %d is made", n), func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.made) >= n {
			s = e.made[n-1]
		}
		return s != nil
	})
	return s
}

func (e *engine) options() discovery.Options {
	return discovery.Options{
		Config: e.cluster.Config(), Namespace: namespace, Identity: "replica-1", Workers: 4,
		Policy:         accept.Policy{Kinds: []upstream.Kind{upstreamtest.Kind{NewSource: e.newSource}}},
		MetricsAddress: "0", ProbeAddress: "0", PprofAddress: "0", LeaseDuration: 15 * time.Second,
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
	}
}

// run runs the engine until the test ends or stop is called.
func (e *engine) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- discovery.Run(ctx, e.options()) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// get returns the upstream's UpstreamCluster, or nil where it is gone.
func (e *engine) get(t *testing.T, name string) *v1alpha1.UpstreamCluster {
	t.Helper()
	var uc v1alpha1.UpstreamCluster
	err := e.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &uc)
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	return &uc
}

// edit changes us-east.
func (e *engine) edit(t *testing.T, change func(*v1alpha1.UpstreamCluster)) {
	t.Helper()
	uc := e.get(t, "us-east")
	before := uc.DeepCopy()
	change(uc)
	if err := e.client.Patch(t.Context(), uc, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// status waits until us-east's status says a reason in its summary.
func (e *engine) status(t *testing.T, reason string) *v1alpha1.UpstreamCluster {
	t.Helper()
	var uc *v1alpha1.UpstreamCluster
	upstreamtest.Eventually(t, "the status says "+reason, func() bool {
		uc = e.get(t, "us-east")
		return uc != nil && uc.Status.Reason == reason
	})
	return uc
}

// mirrored waits until the central cluster has so many mirrored Services.
func (e *engine) mirrored(t *testing.T, n int) {
	t.Helper()
	upstreamtest.Eventually(t, fmt.Sprintf("%d Services are mirrored", n), func() bool {
		var list corev1.ServiceList
		if err := e.client.List(t.Context(), &list, client.HasLabels{mirror.LabelBackend}); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == n
	})
}

func forbidden(r centraltest.Request) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: r.Resource}, r.Name, errors.New("exceeded quota"))
}

// event waits for an event of that reason.
func (e *engine) event(t *testing.T, reason string) {
	t.Helper()
	upstreamtest.Eventually(t, "an event "+reason, func() bool { return e.hasEvent(t, reason) })
}

func (e *engine) hasEvent(t *testing.T, reason string) bool {
	t.Helper()
	var list eventsv1.EventList
	if err := e.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(list.Items, func(ev eventsv1.Event) bool { return ev.Reason == reason })
}
