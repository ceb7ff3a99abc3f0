package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func key(name string) mirror.Key { return mirror.Key{Namespace: "team-a", Name: name} }

// service is an upstream Service with so many ready endpoints.
func service(k mirror.Key, ready int) *mirror.Service {
	s := &mirror.Service{Key: k, Ports: []mirror.Port{{Name: "http", Number: 80, Protocol: "TCP"}}}
	es := mirror.Slice{Name: k.Name + "-1", AddressType: discoveryv1.AddressTypeIPv4, Ports: []mirror.Port{{Name: "http", Number: 8080, Protocol: "TCP"}}}
	for i := range ready {
		es.Endpoints = append(es.Endpoints, mirror.Endpoint{Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}, Ready: true, Serving: true})
	}
	s.Slices = append(s.Slices, es)
	return s
}

// many is that many Services with one ready endpoint each.
func many(n int) (all []*mirror.Service, keys []mirror.Key) {
	for i := range n {
		k := key(fmt.Sprintf("web-%04d", i))
		all, keys = append(all, service(k, 1)), append(keys, k)
	}
	return all, keys
}

// served is an upstream, a central cluster, and the agent between them.
type served struct {
	*agent.Agent
	cluster    *centraltest.Cluster
	source     *upstreamtest.Source
	clock      *clocktesting.FakeClock
	namespaces *central.Namespaces
	registry   *prometheus.Registry
	metrics    *agent.Metrics
	leads      atomic.Bool
	config     agent.Config
	stop       func()

	mu   sync.Mutex
	told [][]agent.Refused
}

// newServed returns an upstream that isn't served yet.
func newServed(t *testing.T) *served {
	t.Helper()
	s := &served{
		cluster: centraltest.New(t), source: upstreamtest.NewSource("alpha"), clock: clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0)),
		namespaces: central.NewNamespaces(), registry: prometheus.NewRegistry(),
	}
	s.leads.Store(true)
	s.addNamespace(t, "team-a")
	var err error
	if s.metrics, err = agent.NewMetrics(s.registry); err != nil {
		t.Fatal(err)
	}
	s.config = agent.Config{
		Upstream: "us-east", Client: s.cluster.Client(t), Rules: mirror.Rules{Backend: "us-east"},
		Guard: mirror.GuardLimit{MaxPercent: 30, MinServices: 10}, Workers: 4, Namespaces: s.namespaces, Metrics: s.metrics,
		Logger: slog.New(slog.DiscardHandler), Clock: s.clock, Leads: s.leads.Load, StatusChanged: func() {},
		Refused: func(r []agent.Refused) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, r)
		},
	}
	return s
}

func (s *served) addNamespace(t *testing.T, name string) {
	t.Helper()
	s.cluster.AddNamespaces(t, name)
	s.namespaces.Set(name, true)
}

// seed has the central cluster hold what is desired of Services.
func (s *served) seed(t *testing.T, services ...*mirror.Service) {
	t.Helper()
	for _, said := range services {
		o, _ := s.config.Rules.Desired(said)
		o.Service.UID = types.UID("of-" + said.Name)
		s.cluster.Add(t, o.Service)
		for _, es := range o.Slices {
			es.OwnerReferences[0].UID = o.Service.UID
			s.cluster.Add(t, es)
		}
	}
}

// start runs an agent until the test ends or stop is called.
func (s *served) start(t *testing.T) {
	t.Helper()
	s.config.Source = s.source
	a := agent.New(s.config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	s.Agent, s.stop = a, func() { cancel(); <-done }
	t.Cleanup(s.stop)
}

// restart ends the agent and starts another, which reads the upstream anew.
func (s *served) restart(t *testing.T, past agent.Past) {
	t.Helper()
	s.stop()
	now := upstreamtest.NewSource(s.source.Identity())
	for _, k := range s.source.Keys() {
		said, _ := s.source.Service(k)
		now.Put(said)
	}
	s.source, s.config.Past = now, past
	s.start(t)
}

// serve runs an agent of an upstream with these Services and returns when it has settled.
func serve(t *testing.T, services ...*mirror.Service) *served {
	t.Helper()
	s := newServed(t)
	s.source.Put(services...)
	s.start(t)
	s.settle(t)
	return s
}

// settle completes the source's view, and returns when every key has been looked at.
func (s *served) settle(t *testing.T) {
	t.Helper()
	s.source.Complete(t)
	s.until(t, "the first pass is over", func(s agent.Snapshot) bool { return s.Settled })
}

func (s *served) until(t *testing.T, what string, is func(agent.Snapshot) bool) {
	t.Helper()
	upstreamtest.Eventually(t, what, func() bool { return is(s.Snapshot()) })
}

// later lets the time pass, in steps of a second, until a condition holds.
func (s *served) later(t *testing.T, what string, is func(agent.Snapshot) bool) {
	t.Helper()
	upstreamtest.Eventually(t, what, func() bool { s.clock.Step(time.Second); return is(s.Snapshot()) })
}

// passes lets a duration pass, in steps.
func (s *served) passes(d time.Duration) {
	for range 10 {
		s.clock.Step(d / 10)
	}
}

// inCentral returns the ready endpoints that the central cluster has of each upstream Service.
func (s *served) inCentral(t *testing.T) map[mirror.Key]int {
	t.Helper()
	owned, err := central.ListOwned(t.Context(), s.config.Client, central.Upstream("us-east"))
	if err != nil {
		t.Fatal(err)
	}
	ready := map[mirror.Key]int{}
	for k, o := range owned {
		if o.Service != nil {
			ready[k] = 0
		}
		for _, es := range o.Slices {
			ready[k] += mirror.ReadyEndpoints(es.Endpoints)
		}
	}
	return ready
}

// ready waits until the central cluster has so many ready endpoints of an upstream Service.
func (s *served) ready(t *testing.T, k mirror.Key, n int) {
	t.Helper()
	upstreamtest.Eventually(t, fmt.Sprintf("%s has %d ready endpoints", k, n), func() bool { got, ok := s.inCentral(t)[k]; return ok && got == n })
}

func (s *served) gone(t *testing.T, k mirror.Key) {
	t.Helper()
	upstreamtest.Eventually(t, fmt.Sprintf("%s is gone", k), func() bool { _, ok := s.inCentral(t)[k]; return !ok })
}

// series returns the upstream's series of a name, summed up, and whether there are any.
func (s *served) series(t *testing.T, name string) (sum float64, ok bool) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			ok = true
			sum += value(m)
		}
	}
	return sum, ok
}

func value(m *dto.Metric) float64 {
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
}

func down() *upstream.Error {
	return &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused")}
}

func refusing(is func(centraltest.Request) bool) func(context.Context, centraltest.Request) error {
	return func(_ context.Context, r centraltest.Request) error {
		if is(r) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: r.Resource}, r.Name, errors.New("exceeded quota"))
		}
		return nil
	}
}

func changes(r centraltest.Request) bool {
	return r.Verb == "create" || r.Verb == "update" || r.Verb == "patch" || r.Verb == "delete"
}

func TestAServicesWay(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.ready(t, web, 2)
	s.source.Set(t, service(web, 3))
	s.ready(t, web, 3)
	api := key("api")
	s.source.Set(t, service(api, 1))
	s.ready(t, api, 1)
	s.source.Remove(t, web)
	s.gone(t, web)
	s.until(t, "one Service is mirrored", func(s agent.Snapshot) bool {
		return s.Services == 1 && s.Endpoints == 1 && s.Ready == 1 && s.Complete && s.Started && s.Identity == "alpha"
	})
}

func TestARestartWritesNothing(t *testing.T) {
	s := serve(t, service(key("web"), 2), service(key("api"), 1))
	s.cluster.Forget()
	s.restart(t, agent.Past{})
	s.settle(t)
	if writes := s.cluster.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
}

// What went away while nobody looked is removed, and what was changed put back.
func TestARestartMendsWhatHappenedMeanwhile(t *testing.T) {
	s := serve(t, service(key("web"), 2), service(key("api"), 1))
	s.stop()
	s.source.Remove(t, key("api"))
	s.cluster.Remove("endpointslices", "team-a", "us-east-web-1")
	s.restart(t, agent.Past{})
	s.settle(t)
	s.gone(t, key("api"))
	s.ready(t, key("web"), 2)
}

func TestWhatSomeoneChangesInTheCentralClusterIsPutBack(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.cluster.Remove("services", "team-a", "us-east-web")
	upstreamtest.Eventually(t, "the Service is back", func() bool {
		_, err := s.config.Client.CoreV1().Services("team-a").Get(t.Context(), "us-east-web", metav1.GetOptions{})
		return err == nil
	})
	s.ready(t, web, 2)
}

func TestAServiceWaitsForItsNamespace(t *testing.T) {
	k := mirror.Key{Namespace: "team-b", Name: "web"}
	s := serve(t, service(k, 1))
	if got := s.Snapshot().Waiting; got != 1 {
		t.Fatalf("%d wait, want 1", got)
	}
	s.addNamespace(t, "team-b")
	s.NamespaceChanged("team-b")
	s.ready(t, k, 1)
	s.until(t, "nothing waits", func(s agent.Snapshot) bool { return s.Waiting == 0 })
}

func TestNewRulesTakeEffect(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	narrow, err := mirror.NewAddressPolicy([]string{"10.0.0.1/32"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rules := mirror.Rules{Backend: "us-east", Addresses: narrow}
	s.SetRules(rules)
	s.ready(t, web, 1)
	s.until(t, "the other is refused", func(s agent.Snapshot) bool {
		return s.Refused == 1 && s.ByReasons[mirror.ReasonAddressOutside] == 1 && len(s.Refusals) == 1
	})
	s.SetRules(rules)
	s.SetRules(mirror.Rules{Backend: "us-east"})
	s.ready(t, web, 2)
	s.until(t, "nothing is refused", func(s agent.Snapshot) bool { return s.Refused == 0 })
}

func TestNothingIsWrittenWithoutTheLease(t *testing.T) {
	web := key("web")
	s := newServed(t)
	s.leads.Store(false)
	s.source.Put(service(web, 1))
	s.start(t)
	s.settle(t)
	if writes := s.cluster.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
	s.leads.Store(true)
	s.ready(t, web, 1)
}

func TestARestoredCentralClusterIsListedAgain(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 1))
	backup := s.cluster.Backup()
	s.source.Set(t, service(web, 3), service(key("api"), 1))
	s.ready(t, web, 3)
	s.ready(t, key("api"), 1)
	s.cluster.Restore(backup)
	if s.inCentral(t)[web] != 1 {
		t.Fatal("the backup holds nothing")
	}
	s.Relist()
	s.ready(t, web, 3)
	s.ready(t, key("api"), 1)
}

func TestAPanicIsOneKeysError(t *testing.T) {
	web, api := key("web"), key("api")
	s := newServed(t)
	s.source.Put(service(web, 1), service(api, 1))
	s.source.Panics(web, true)
	s.start(t)
	s.settle(t)
	s.ready(t, api, 1)
	s.source.Set(t, service(api, 2))
	s.ready(t, api, 2)
	s.until(t, "the panic is told", func(s agent.Snapshot) bool { return s.Failing.Services == 1 })
	if n, _ := s.series(t, "gimbal_upstream_panics_total"); n == 0 {
		t.Error("no panic is counted")
	}
	s.source.Panics(web, false)
	s.ready(t, web, 1)
	s.until(t, "nothing fails", func(s agent.Snapshot) bool { return s.Failing.Services == 0 })
}

// A panic while the guards are told mustn't end the source that brought the change.
func TestAPanicOfAKnownServiceIsOneKeysError(t *testing.T) {
	web, api := key("web"), key("api")
	s := serve(t, service(web, 1), service(api, 1))
	s.source.Panics(web, true)
	s.source.Set(t, service(web, 2), service(api, 2))
	s.ready(t, api, 2)
	s.source.Panics(web, false)
	s.ready(t, web, 2)
}
