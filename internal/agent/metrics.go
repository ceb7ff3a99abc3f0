package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// Metrics are the series of all agents of a process. Every label's values are bounded by
// configuration: upstream names and fixed sets of words. An upstream's series end with its
// agent: gauges are read from the agents that run, counters are dropped.
type Metrics struct {
	reachable    *prometheus.Desc
	lastComplete *prometheus.Desc
	services     *prometheus.Desc
	endpoints    *prometheus.Desc
	refusals     *prometheus.Desc
	held         *prometheus.Desc
	heldLosses   *prometheus.Desc
	lost         *prometheus.Desc
	raised       *prometheus.Desc
	other        *prometheus.Desc

	writes      *prometheus.CounterVec
	failures    *prometheus.CounterVec
	panics      *prometheus.CounterVec
	propagation *prometheus.HistogramVec
	cycle       *prometheus.HistogramVec
	requests    *prometheus.GaugeVec

	mu     sync.Mutex
	agents map[string]*Agent
}

// NewMetrics makes the agents' metrics and registers them with r.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("gimbal_"+name, help, append([]string{"upstream"}, labels...), nil)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gimbal", Name: name, Help: help},
			append([]string{"upstream"}, labels...))
	}
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "gimbal", Name: name, Help: help, Buckets: buckets}, []string{"upstream"})
	}
	m := &Metrics{
		reachable:    gauge("upstream_reachable", "1 while the view of the upstream is complete and kept up to date, else 0."),
		lastComplete: gauge("upstream_last_complete_view_timestamp_seconds", "When the view of the upstream was last known to be complete, in seconds since the epoch; 0 if never."),
		services:     gauge("upstream_services", "Services by state: mirrored (in the central cluster) or waiting (for a central namespace).", "state"),
		endpoints:    gauge("upstream_endpoints", "Endpoints in the upstream's central EndpointSlices."),
		refusals:     gauge("upstream_refusals", "Upstream objects, or parts of them, that are refused at present, by reason.", "reason"),
		held:         gauge("upstream_held_deletions", "Deletions that the deletion guard holds until an operator confirms them."),
		heldLosses:   gauge("upstream_held_endpoints", "Services that keep endpoints which the upstream no longer has, until an operator confirms their loss."),
		lost:         gauge("upstream_endpoints_lost", "Services that lost their last ready endpoint since the upstream has been served, and have none yet."),
		raised:       gauge("upstream_endpoints_lost_at_once", "1 while more Services than the deletion guard's share have lost their last ready endpoint within ten minutes and have none yet, else 0."),
		other:        gauge("upstream_other_cluster", "1 while another cluster answers than the central objects are of, so that nothing is written, else 0."),
		writes:       counter("upstream_writes_total", "Writes to the central API server that it answered, by resource, verb and result (ok, conflict, error).", "resource", "verb", "result"),
		failures:     counter("upstream_failures_total", "Failures to read the upstream, by reason.", "reason"),
		panics:       counter("upstream_panics_total", "Panics that a Service of the upstream brought about; each is logged with its stack, and the Service tried again."),
		propagation: histogram("upstream_propagation_seconds", "Time from seeing a live change of an upstream Service to having written it to the central cluster, retries included.",
			.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 15, 60),
		cycle: histogram("upstream_cycle_duration_seconds", "How long complete readings of an upstream that is polled (OpenStack) took.",
			.1, .2, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300),
		requests: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gimbal", Name: "upstream_cycle_requests",
			Help: "Requests that the last complete reading of an upstream that is polled (OpenStack) took."}, []string{"upstream"}),
		agents: map[string]*Agent{},
	}
	for _, c := range []prometheus.Collector{m, m.writes, m.failures, m.panics, m.propagation, m.cycle, m.requests} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.reachable, m.lastComplete, m.services, m.endpoints, m.refusals, m.held, m.heldLosses, m.lost, m.raised, m.other} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, a := range m.agents {
		s := a.Snapshot()
		set := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{name}, labels...)...)
		}
		set(m.reachable, number(s.Complete))
		set(m.lastComplete, seconds(s.LastView))
		set(m.services, float64(s.Services), "mirrored")
		set(m.services, float64(s.Waiting), "waiting")
		set(m.endpoints, float64(s.Endpoints))
		for reason, n := range s.ByReasons {
			set(m.refusals, float64(n), string(reason))
		}
		set(m.held, float64(s.HeldDeletions))
		set(m.heldLosses, float64(s.HeldLosses))
		set(m.lost, float64(s.Lost))
		set(m.raised, number(s.LossesRaised))
		set(m.other, number(s.OtherCluster()))
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds returns t as Prometheus wants times: 0 if it never was.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// follow shows an agent's series until stop is called.
func (m *Metrics) follow(a *Agent) (stop func()) {
	name := a.config.Upstream
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents[name] = a
	return func() {
		m.mu.Lock()
		if m.agents[name] == a {
			delete(m.agents, name)
		}
		m.mu.Unlock()
		m.Forget(name)
	}
}

// Forget ends the counters of an upstream that isn't served any more.
func (m *Metrics) Forget(name string) {
	match := prometheus.Labels{"upstream": name}
	m.writes.DeletePartialMatch(match)
	m.failures.DeletePartialMatch(match)
	m.panics.DeletePartialMatch(match)
	m.propagation.DeletePartialMatch(match)
	m.cycle.DeletePartialMatch(match)
	m.requests.DeletePartialMatch(match)
}

// Written returns a function that counts writes to the central cluster for an upstream.
func (m *Metrics) Written(name string) func(resource, verb, result string) {
	return func(resource, verb, result string) { m.writes.WithLabelValues(name, resource, verb, result).Inc() }
}

func (m *Metrics) failed(name string, err *upstream.Error) {
	m.failures.WithLabelValues(name, string(err.Reason)).Inc()
}

func (m *Metrics) panicked(name string) { m.panics.WithLabelValues(name).Inc() }

func (m *Metrics) propagated(name string, d time.Duration) {
	m.propagation.WithLabelValues(name).Observe(d.Seconds())
}

func (m *Metrics) polled(name string, c upstream.Cycle) {
	m.cycle.WithLabelValues(name).Observe(c.Duration.Seconds())
	m.requests.WithLabelValues(name).Set(float64(c.Requests))
}
