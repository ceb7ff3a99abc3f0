package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// cloudSize is that of the cloud at which the predecessor took half an hour for a cycle.
var cloudSize = openstacktest.Size{Projects: 4000, LoadBalancers: 2, Pools: 2, Members: 5}

const (
	// latency is how long each request to that cloud takes.
	latency = 20 * time.Millisecond
	// troubledOf is of how many load balancers there is one with a member that is down for good.
	troubledOf = 100
)

// largeCloud returns a cloud of cloudSize, in which a few members are down.
func largeCloud() openstacktest.State {
	s := openstacktest.Generate(cloudSize)
	for i, lb := range s.LoadBalancers {
		if i%troubledOf == 0 {
			lb.Pools[0].Members[0].Operating = "OFFLINE"
		}
	}
	return s
}

// measureProjects measures gimbal discover on a cloud of 4,000 projects, which answers as
// a real one does, and a central control plane that has all their namespaces.
func measureProjects(ctx context.Context, o options, r *report) error {
	cloud := &openstacktest.Cloud{Delay: latency, Recorded: true}
	cloud.Change(func(s *openstacktest.State) { *s = largeCloud() })
	if err := cloud.Start("127.0.0.1:0"); err != nil {
		return err
	}
	defer func() { _ = cloud.Close() }()
	config, err := openstack.ParseClouds(cloud.CloudsYAML(), "", cloud.CA(), "gimbal-bench", upstream.Allow{})
	if err != nil {
		return err
	}
	plain, requests, err := plainCycle(ctx, cloud.CA(), config)
	if err != nil {
		return err
	}
	w, err := newCentral(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	say("making %d namespaces", cloudSize.Projects)
	if err := w.makeNamespaces(ctx, cloudSize.Projects); err != nil {
		return err
	}
	if _, err := w.startGimbal(ctx); err != nil {
		return err
	}
	if err := w.addCloud(ctx, cloud); err != nil {
		return err
	}
	services := cloudSize.Projects * cloudSize.LoadBalancers
	say("first sync of %d load balancers", services)
	start := time.Now()
	first, err := w.cycleAfter(ctx, upstreamCycles{})
	if err != nil {
		return err
	}
	last, err := w.seen.filled(ctx, services*(1+cloudSize.Pools), team)
	if err != nil {
		return err
	}
	unchanged, most, err := w.unchangedCycles(ctx, first)
	if err != nil {
		return err
	}
	if err := pause(ctx, 20*time.Second); err != nil {
		return err
	}
	now, peak := w.rss()
	w.profile("heap-projects", "heap?gc=1")
	beside := fmt.Sprintf("%s, %d requests", short(plain), requests)
	what := fmt.Sprintf("A cloud of %d projects × %d load balancers × %d pools × %d members, %s for each request: ", cloudSize.Projects, cloudSize.LoadBalancers, cloudSize.Pools, cloudSize.Members, latency)
	r.add(row{what: what + "the first cycle", figure: fmt.Sprintf("%s, %d requests", short(first.total), first.requests), bar: "20 s", plain: beside, met: first.total <= 20*time.Second})
	r.add(row{what: "… until all was seen centrally", figure: short(last.Sub(start))})
	r.add(row{what: "… a cycle with nothing changed, the slowest of 3", figure: fmt.Sprintf("%s, %d requests at most", short(unchanged.at(100)), most), bar: "2.5 s", plain: beside, met: unchanged.at(100) <= 2500*time.Millisecond})
	r.add(row{what: "… resident memory, 20 s after the last cycle", figure: fmt.Sprintf("%s (peak %s)", megabytes(now), megabytes(peak)), bar: "200 MB", met: now*1024 <= 200e6})
	return nil
}

// unchangedCycles returns how long the next three cycles take, and the most requests of one.
func (w *world) unchangedCycles(ctx context.Context, before upstreamCycles) (took times, most int, err error) {
	for range 3 {
		next, err := w.cycleAfter(ctx, before)
		if err != nil {
			return nil, 0, err
		}
		took, most, before = append(took, next.total-before.total), max(most, next.requests), next
	}
	return took, most, nil
}

// makeNamespaces makes the projects' namespaces.
func (w *world) makeNamespaces(ctx context.Context, n int) error {
	config, err := restConfig(w.central.Kubeconfig())
	if err != nil {
		return err
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error {
			_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%d", i)}}, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

// addCloud has Gimbal serve a cloud.
func (w *world) addCloud(ctx context.Context, cloud *openstacktest.Cloud) error {
	err := w.admin.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: backend},
		Data:       map[string][]byte{"clouds.yaml": cloud.CloudsYAML(), "ca.crt": cloud.CA()},
	})
	if err != nil {
		return err
	}
	return w.admin.Create(ctx, &v1alpha1.UpstreamCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: backend},
		Spec: v1alpha1.UpstreamClusterSpec{OpenStack: &v1alpha1.OpenStackUpstream{
			CloudsSecret: v1alpha1.CloudsSecret{Name: backend, CAKey: "ca.crt"},
		}},
	})
}

// upstreamCycles is what Gimbal's metrics say of its cycles.
type upstreamCycles struct {
	count    int
	total    time.Duration
	requests int // of the last one
}

// cycleAfter waits until there has been one more cycle.
func (w *world) cycleAfter(ctx context.Context, before upstreamCycles) (upstreamCycles, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		c, err := readCycles(ctx)
		if err != nil || c.count > before.count {
			return c, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return c, fmt.Errorf("no cycle came to its end; gimbal's log is %s", filepath.Join(w.dir, "gimbal.log"))
		}
	}
}

func readCycles(ctx context.Context) (c upstreamCycles, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddress+"/metrics", nil)
	if err != nil {
		return c, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return c, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, "{")
		_, text, _ := strings.Cut(rest, "} ")
		value, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
		switch name {
		case "gimbal_upstream_cycle_duration_seconds_count":
			c.count = int(value)
		case "gimbal_upstream_cycle_duration_seconds_sum":
			c.total = time.Duration(value * float64(time.Second))
		case "gimbal_upstream_cycle_requests":
			c.requests = int(value)
		}
	}
	return c, err
}

// newCentral starts a central control plane alone.
func newCentral(ctx context.Context, o options) (*world, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &world{options: o, cancel: cancel}
	if err := w.startCentral(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}
