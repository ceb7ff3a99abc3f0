package discovery

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the series that the engine keeps. Every label's values are bounded
// by configuration: upstream names and fixed sets of words. An upstream's series
// end with its agent.
type Metrics struct {
	accepted     *prometheus.GaugeVec
	reachable    *prometheus.GaugeVec
	lastComplete *prometheus.GaugeVec
	services     *prometheus.GaugeVec
	endpoints    *prometheus.GaugeVec
	refusals     *prometheus.GaugeVec
	held         *prometheus.GaugeVec
	writes       *prometheus.CounterVec
	failures     *prometheus.CounterVec
	propagation  *prometheus.HistogramVec
	cycle        *prometheus.HistogramVec
	requests     *prometheus.GaugeVec
	leading      prometheus.Gauge
}

// NewMetrics makes the engine's metrics and registers them with r.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gimbal", Name: name, Help: help},
			append([]string{"upstream"}, labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gimbal", Name: name, Help: help},
			append([]string{"upstream"}, labels...))
	}
	m := &Metrics{
		accepted:     gauge("upstream_accepted", "1 while the spec and Secret of the upstream can be used, 0 while they can't and it isn't served."),
		reachable:    gauge("upstream_reachable", "1 while the view of the upstream is complete and kept up to date, else 0."),
		lastComplete: gauge("upstream_last_complete_view_timestamp_seconds", "When the view of the upstream was last known to be complete, in seconds since the epoch; 0 if never."),
		services:     gauge("upstream_services", "Services by state: mirrored (in the central cluster) or waiting (for a central namespace).", "state"),
		endpoints:    gauge("upstream_endpoints", "Endpoints in the upstream's central EndpointSlices."),
		refusals:     gauge("upstream_refusals", "Upstream objects, or parts of them, that are refused at present, by reason.", "reason"),
		held:         gauge("upstream_held_deletions", "Deletions that the deletion guard holds until an operator confirms them."),
		writes:       counter("upstream_writes_total", "Writes to the central API server that it answered, by resource, verb and result (ok, conflict, error).", "resource", "verb", "result"),
		failures:     counter("upstream_failures_total", "Failures to read the upstream, by reason.", "reason"),
		propagation: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "gimbal", Name: "upstream_propagation_seconds",
			Help:    "Time from seeing a live change of an upstream Service to having written it to the central cluster.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 15, 60},
		}, []string{"upstream"}),
		cycle: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "gimbal", Name: "upstream_cycle_duration_seconds",
			Help:    "How long complete readings of an upstream that is polled (OpenStack) took.",
			Buckets: []float64{.1, .2, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300},
		}, []string{"upstream"}),
		requests: gauge("upstream_cycle_requests", "Requests that the last complete reading of an upstream that is polled (OpenStack) took."),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "gimbal", Name: "leading_upstreams",
			Help: "Upstreams whose Lease this replica holds.",
		}),
	}
	for _, c := range []prometheus.Collector{
		m.accepted, m.reachable, m.lastComplete, m.services, m.endpoints, m.refusals, m.held,
		m.writes, m.failures, m.propagation, m.cycle, m.requests, m.leading,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// forget ends the series of an upstream whose agent has stopped.
func (m *Metrics) forget(upstream string) {
	match := prometheus.Labels{"upstream": upstream}
	for _, g := range []*prometheus.GaugeVec{m.reachable, m.lastComplete, m.services, m.endpoints, m.refusals, m.held, m.requests} {
		g.DeletePartialMatch(match)
	}
	m.writes.DeletePartialMatch(match)
	m.failures.DeletePartialMatch(match)
	m.propagation.DeletePartialMatch(match)
	m.cycle.DeletePartialMatch(match)
}
