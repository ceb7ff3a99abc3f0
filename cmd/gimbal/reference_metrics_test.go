package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/projectcontour/gimbal/internal/discovery"
)

// metricsPage has every metric with what it says of itself.
func metricsPage() (string, error) {
	r := &recorder{Registerer: prometheus.NewRegistry()}
	if err := discovery.Metrics(r); err != nil {
		return "", err
	}
	var rows [][]string
	for _, c := range r.collectors {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			row, err := metricRow(c, d)
			if err != nil {
				return "", err
			}
			rows = append(rows, row)
		}
	}
	const intro = "# Metrics\n\n`gimbal discover` serves these at `/metrics`, beside those of Go, of the process and of controller-runtime.\n\n"
	return intro + table([]string{"Metric", "Type", "Labels", "Meaning"}, rows), nil
}

// recorder is a prometheus.Registerer that keeps the collectors: a registry shows metrics only once they have a value.
type recorder struct {
	prometheus.Registerer
	collectors []prometheus.Collector
}

func (r *recorder) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return r.Registerer.Register(c)
}

func (r *recorder) MustRegister(all ...prometheus.Collector) {
	r.collectors = append(r.collectors, all...)
	r.Registerer.MustRegister(all...)
}

// A Desc shows its parts in this form only.
var descForm = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{(.*)\}\}$`)

func metricRow(c prometheus.Collector, d *prometheus.Desc) ([]string, error) {
	m := descForm.FindStringSubmatch(d.String())
	if m == nil {
		return nil, fmt.Errorf("%s isn't of the form that Prometheus' client prints", d)
	}
	name, nameErr := strconv.Unquote(m[1])
	help, helpErr := strconv.Unquote(m[2])
	if nameErr != nil || helpErr != nil {
		return nil, fmt.Errorf("%s: its name or help can't be read", d)
	}
	labels := ""
	if m[3] != "" {
		labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
	}
	return []string{"`" + name + "`", metricType(c), labels, sentence(help)}, nil
}

func metricType(c prometheus.Collector) string {
	switch c.(type) {
	case prometheus.Gauge, *prometheus.GaugeVec: // a Gauge is a Counter too
		return "gauge"
	case prometheus.Counter, *prometheus.CounterVec:
		return "counter"
	case prometheus.Histogram, *prometheus.HistogramVec:
		return "histogram"
	default: // a collector of gauges that it reads when it is asked
		return "gauge"
	}
}
