package discovery

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/projectcontour/gimbal/internal/agent"
)

// gauges are the series of the controller itself.
type gauges struct {
	accepted *prometheus.GaugeVec
	leading  prometheus.Gauge
}

func newGauges(r prometheus.Registerer) (gauges, error) {
	g := gauges{
		accepted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "gimbal", Name: "upstream_accepted",
			Help: "1 while the spec and Secret of the upstream can be used, 0 while they can't and it isn't served.",
		}, []string{"upstream"}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "gimbal", Name: "leading_upstreams",
			Help: "Upstreams whose Lease this replica holds.",
		}),
	}
	if err := r.Register(g.accepted); err != nil {
		return g, err
	}
	return g, r.Register(g.leading)
}

// Metrics registers every series of the engine with r: the agents' and the controller's.
func Metrics(r prometheus.Registerer) error {
	if _, err := newGauges(r); err != nil {
		return err
	}
	_, err := agent.NewMetrics(r)
	return err
}
