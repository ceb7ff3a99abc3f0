package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack"
	lab "github.com/projectcontour/gimbal/lab/openstack"
)

const (
	cloudBalancers = 200
	cloudProjects  = 20
	cloudMembers   = 5
	cloudChanges   = 5
	// cloudRequests is how many requests are under way at once, as of Gimbal.
	cloudRequests = 24
)

// cycles is an upstream.Observer that hands on what each cycle cost.
type cycles struct {
	polled chan upstream.Cycle
	failed chan error
}

func (cycles) Update(_ upstream.Urgency, change func() []mirror.Key) { change() }

func (cycles) Complete()                 {}
func (c cycles) Polled(u upstream.Cycle) { c.polled <- u }

func (c cycles) Failed(err *upstream.Error) {
	select {
	case c.failed <- err:
	default:
	}
}

func (c cycles) next(ctx context.Context) (upstream.Cycle, error) {
	select {
	case u := <-c.polled:
		return u, nil
	case err := <-c.failed:
		return upstream.Cycle{}, err
	case <-ctx.Done():
		return upstream.Cycle{}, context.Cause(ctx)
	}
}

// measureCloud measures cycles on a real Keystone and Octavia with 200 load balancers.
func measureCloud(ctx context.Context, _ options, r *report) error {
	dir, err := os.MkdirTemp(os.Getenv(containedEnv), "cloud-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("starting Keystone and Octavia")
	cloud, err := lab.Start(ctx, lab.Options{Name: "bench", Dir: filepath.Join(dir, "openstack")})
	if err != nil {
		return err
	}
	defer func() { _ = cloud.Stop() }()
	say("making %d load balancers", cloudBalancers)
	ids, err := fillCloud(ctx, cloud)
	if err != nil {
		return err
	}
	config, err := openstack.ParseClouds(cloud.CloudsYAML("bench"), "", cloud.CA(), "gimbal-bench", upstream.Allow{})
	if err != nil {
		return err
	}
	// Until nothing is so fresh that it has to be read again.
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	return measureCycles(ctx, cloud, ids, config, r)
}

// measureCycles measures a full cycle, an unchanged one, and one with some changes.
func measureCycles(ctx context.Context, cloud *lab.OpenStack, ids []string, config *openstack.Config, r *report) error {
	plain, requests, err := plainCycle(ctx, cloud.CA(), config)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := cycles{polled: make(chan upstream.Cycle), failed: make(chan error, 1)}
	source := openstack.New(openstack.Options{Config: config, PollInterval: 4 * time.Second, ProbeInterval: time.Hour})
	go func() { _ = source.Run(run, seen) }()
	full, err := seen.next(ctx)
	if err != nil {
		return err
	}
	unchanged, err := seen.next(ctx)
	if err != nil {
		return err
	}
	for i := range cloudChanges {
		if err := cloud.Update(ctx, ids[i*len(ids)/cloudChanges], "pool/web/member/m1", lab.Object{"weight": 0}); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil { // as long as changes are fresh
		return err
	}
	changed, err := changedCycle(ctx, seen, unchanged.Requests)
	if err != nil {
		return err
	}
	if n := len(source.Keys()); n != cloudBalancers {
		return fmt.Errorf("%d Services were made of %d load balancers", n, cloudBalancers)
	}
	beside := fmt.Sprintf("%s, %d requests", short(plain), requests)
	what := fmt.Sprintf("A real Keystone and Octavia, %d load balancers × %d members: ", cloudBalancers, cloudMembers)
	r.add(row{what: what + "the first cycle", figure: cycleFigure(full), plain: beside})
	r.add(row{what: "… a cycle with nothing changed", figure: cycleFigure(unchanged), plain: beside})
	r.add(row{what: fmt.Sprintf("… a cycle with %d changed", cloudChanges), figure: cycleFigure(changed), plain: beside})
	return nil
}

// changedCycle waits for a cycle that took more requests than an unchanged one.
func changedCycle(ctx context.Context, seen cycles, unchanged int) (upstream.Cycle, error) {
	for {
		c, err := seen.next(ctx)
		if err != nil || c.Requests > unchanged {
			return c, err
		}
	}
}

func cycleFigure(c upstream.Cycle) string {
	return fmt.Sprintf("%s, %d requests", short(c.Duration), c.Requests)
}

// fillCloud makes the projects and load balancers, and returns the latter's ids.
func fillCloud(ctx context.Context, cloud *lab.OpenStack) ([]string, error) {
	ids := make([]string, cloudBalancers)
	owners := make([]string, cloudProjects)
	for i := range owners {
		var err error
		if owners[i], err = cloud.CreateProject(ctx, "", fmt.Sprintf("team-%d", i)); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range ids {
		group.Go(func() (err error) {
			var members []any
			for m := range cloudMembers {
				members = append(members, lab.Object{"name": fmt.Sprintf("m%d", m), "address": fmt.Sprintf("10.1.%d.%d", i, m+1), "protocol_port": 8080})
			}
			ids[i], err = cloud.CreateLoadBalancer(ctx, owners[i%cloudProjects], lab.Object{
				"name": fmt.Sprintf("app-%d", i),
				"listeners": []any{lab.Object{"name": "http", "protocol": "HTTP", "protocol_port": 80, "default_pool": lab.Object{
					"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members,
				}}},
			})
			return err
		})
	}
	return ids, group.Wait()
}

// plainCycle reads all there is as a plain client does: gophercloud's listings, and every
// pool's members, as many at once as Gimbal does.
func plainCycle(ctx context.Context, ca []byte, config *openstack.Config) (time.Duration, int, error) {
	say("the same by a plain client")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	counted := &countingTransport{next: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: cloudRequests}}
	start := time.Now()
	provider, err := gopherstack.NewClient(config.Auth.IdentityEndpoint)
	if err != nil {
		return 0, 0, err
	}
	provider.HTTPClient = http.Client{Transport: counted, Timeout: time.Minute}
	provider.UseTokenLock()
	auth := config.Auth
	if err := gopherstack.AuthenticateV3(ctx, provider, &auth, gophercloud.EndpointOpts{}); err != nil {
		return 0, 0, err
	}
	if err := plainRead(ctx, provider, config.Region); err != nil {
		return 0, 0, err
	}
	return time.Since(start), counted.requests(), nil
}

func plainRead(ctx context.Context, provider *gophercloud.ProviderClient, region string) error {
	identity, err := gopherstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return err
	}
	octavia, err := gopherstack.NewLoadBalancerV2(provider, gophercloud.EndpointOpts{Region: region})
	if err != nil {
		return err
	}
	if _, err := projects.ListAvailable(identity).AllPages(ctx); err != nil {
		return err
	}
	if _, err := loadbalancers.List(octavia, nil).AllPages(ctx); err != nil {
		return err
	}
	if _, err := listeners.List(octavia, nil).AllPages(ctx); err != nil {
		return err
	}
	pages, err := pools.List(octavia, nil).AllPages(ctx)
	if err != nil {
		return err
	}
	all, err := pools.ExtractPools(pages)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cloudRequests)
	for _, p := range all {
		group.Go(func() error {
			_, err := pools.ListMembers(octavia, p.ID, nil).AllPages(ctx)
			return err
		})
	}
	return group.Wait()
}

// countingTransport counts requests.
type countingTransport struct {
	next http.RoundTripper
	mu   sync.Mutex
	n    int
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.next.RoundTrip(r)
}

func (c *countingTransport) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
