package reference

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics returns the page of the metrics that register registers.
func Metrics(register func(prometheus.Registerer) error) (string, error) {
	r := &recorder{}
	if err := register(r); err != nil {
		return "", fmt.Errorf("register the metrics: %w", err)
	}
	if r.err != nil {
		return "", r.err
	}
	slices.SortFunc(r.rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	p := newPage("Metrics", "`gimbal discover` serves these at `/metrics`, beside those of Go, of the process and of controller-runtime.")
	p.table([]string{"Metric", "Type", "Labels", "Meaning"}, r.rows)
	return p.done(), nil
}

// recorder is a prometheus.Registerer that keeps what collectors say of themselves.
type recorder struct {
	rows [][]string
	err  error
}

func (r *recorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for d := range descs {
		row, err := metricRow(c, d)
		if err != nil {
			r.err = err
			continue
		}
		r.rows = append(r.rows, row)
	}
	return r.err
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = r.Register(c) // kept in r.err
	}
}

func (*recorder) Unregister(prometheus.Collector) bool { return false }

// A Desc shows its parts in this form only.
var descForm = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{(.*)\}\}$`)

func metricRow(c prometheus.Collector, d *prometheus.Desc) ([]string, error) {
	m := descForm.FindStringSubmatch(d.String())
	if m == nil {
		return nil, fmt.Errorf("%s isn't of the form that Prometheus' client prints", d)
	}
	name, err := strconv.Unquote(m[1])
	if err != nil {
		return nil, fmt.Errorf("read the name of %s: %w", d, err)
	}
	help, err := strconv.Unquote(m[2])
	if err != nil {
		return nil, fmt.Errorf("read the help of %s: %w", d, err)
	}
	labels := strings.Split(m[3], ",")
	for i := range labels {
		labels[i] = quote(labels[i])
	}
	return []string{quote(name), metricType(c), strings.Join(labels, ", "), sentence(help)}, nil
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
