package openstack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/pagination"

	lab "github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/lab/process"
)

// TestOpenStack walks one OpenStack through its life. A cold component cache is
// filled first.
func TestOpenStack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts OpenStack, whose programs may have to be fetched first")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	o, err := lab.Start(ctx, lab.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := lab.Open(o.AccessFile())
	if err != nil {
		t.Fatal(err)
	}
	id := makeShop(t, c)
	user := discover(t, c, c.CloudsYAML("os-1"))
	if got := user.loadBalancers(t); !slices.Equal(got, []string{"other", "shop"}) {
		t.Errorf("the discoverer sees load balancers %q", got)
	}
	if got := user.projects(t); !slices.Equal(got, []string{"admin", "elsewhere", "gimbal", "service", "team-a"}) {
		t.Errorf("the discoverer sees projects %q", got)
	}
	if got := discover(t, c, c.PasswordCloudsYAML("os-1")).loadBalancers(t); len(got) != 2 {
		t.Errorf("with its password the discoverer sees load balancers %q", got)
	}
	changeMembers(t, c, id)
	beat(t, c, user, id)
	configure(t, o, c, user)
	breakServices(t, o, c)

	pids := o.PIDs()
	if len(pids) != 3 {
		t.Errorf("services that run: %v, want 3", pids)
	}
	if err := o.Stop(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s (process %d) outlives Stop: %v", name, pid, err)
		}
	}
}

// makeShop makes two projects in two domains with a load balancer each, and returns the first's id.
func makeShop(t *testing.T, c *lab.Client) string {
	t.Helper()
	project, err := c.CreateProject(t.Context(), "", "team")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RenameProject(t.Context(), project, "team-a"); err != nil {
		t.Fatal(err)
	}
	domain, err := c.CreateDomain(t.Context(), "far")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := c.CreateProject(t.Context(), domain, "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.CreateLoadBalancer(t.Context(), project, lab.Object{
		"name": "shop", "vip_address": "10.251.0.100",
		"listeners": []lab.Object{{
			"name": "http", "protocol": "HTTP", "protocol_port": 80,
			"default_pool": lab.Object{
				"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
				"members": []lab.Object{
					{"name": "m1", "address": "10.251.0.11", "protocol_port": 8080},
					{"name": "m2", "address": "10.251.0.12", "protocol_port": 8080},
				},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateLoadBalancer(t.Context(), elsewhere, lab.Object{"name": "other"}); err != nil {
		t.Fatal(err)
	}
	if found, err := c.LoadBalancerID(t.Context(), project, "shop"); err != nil || found != id {
		t.Errorf("the load balancer's id is %s, %v; want %s", found, err, id)
	}
	return id
}

// changeMembers makes, changes and deletes an object of every kind.
func changeMembers(t *testing.T, c *lab.Client, id string) {
	t.Helper()
	for path, o := range map[string]lab.Object{
		"pool/web/member":        {"name": "m3", "address": "10.251.0.13", "protocol_port": 8080},
		"pool/web/healthmonitor": {"name": "check", "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 3},
		"listener/http/l7policy": {"name": "blog", "action": "REDIRECT_TO_URL", "redirect_url": "http://example.com/"},
		"listener":               {"name": "tcp", "protocol": "TCP", "protocol_port": 5432},
		"pool":                   {"name": "spare", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
	} {
		made, err := c.Create(t.Context(), id, path, o)
		if err != nil {
			t.Fatal(err)
		}
		at := path + "/" + made.String("name")
		if err := c.Update(t.Context(), id, at, lab.Object{"admin_state_up": false}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(t.Context(), id, at); err != nil || got["admin_state_up"] != false {
			t.Errorf("%s is %v, %v", at, got, err)
		}
		if err := c.Delete(t.Context(), id, path+"/"+made.ID()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), id, at); !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			t.Errorf("%s after its end: %v", at, err)
		}
	}
	if err := c.Begin(t.Context(), id, "", lab.Object{"description": "a shop"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), id, "shelf/web"); err == nil || !strings.Contains(err.Error(), "listener") {
		t.Errorf("an unknown kind's error names no others: %v", err)
	}
}

// beat takes one member down and looks at it as the discoverer.
func beat(t *testing.T, c *lab.Client, user discoverer, id string) {
	t.Helper()
	pool, err := c.Get(t.Context(), id, "pool/web")
	if err != nil {
		t.Fatal(err)
	}
	down, err := c.Get(t.Context(), id, "pool/web/member/m2")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = process.Await(ctx, nil, func(ctx context.Context) error {
		if err := c.Beat(ctx, id, map[string]string{down.ID(): "DOWN"}); err != nil {
			return err
		}
		got := user.members(t, pool.ID())
		if got["m1"] != "ONLINE" || got["m2"] != "ERROR" {
			return fmt.Errorf("the members are %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// configure tries each of the settings.
func configure(t *testing.T, o *lab.OpenStack, c *lab.Client, user discoverer) {
	t.Helper()
	if err := o.Configure(t.Context(), lab.Settings{PageLimit: 1, TokenLifetime: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if n := user.pages(t); n < 2 {
		t.Errorf("two load balancers come in %d pages of one", n)
	}
	o.Fail(func(r *http.Request) int {
		if r.URL.Query().Has("marker") {
			return http.StatusTeapot
		}
		return 0
	})
	if _, err := loadbalancers.List(user.octavia, nil).AllPages(t.Context()); !gophercloud.ResponseCodeIs(err, http.StatusTeapot) {
		t.Errorf("a second page that is to fail: %v", err)
	}
	o.Fail(nil)
	lifetime := discover(t, c, c.CloudsYAML("os-1")).tokenLifetime(t)
	if lifetime > 2*time.Second {
		t.Errorf("a new token is valid for %s", lifetime)
	}
	if err := o.Configure(t.Context(), lab.Settings{StockPolicy: true}); err != nil {
		t.Fatal(err)
	}
	_, err := loadbalancers.List(user.octavia, nil).AllPages(t.Context())
	if !gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		t.Errorf("by the stock policy the discoverer gets %v, want 403", err)
	}
}

// breakServices pauses and stops what can be.
func breakServices(t *testing.T, o *lab.OpenStack, c *lab.Client) {
	t.Helper()
	for name, url := range map[string]string{lab.Octavia: c.OctaviaURL(), lab.Keystone: c.AuthURL()} {
		if err := o.PauseService(name); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, c, url); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a paused %s: %v, want no answer", name, err)
		}
		if err := o.ResumeService(name); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, c, url); err != nil {
			t.Errorf("a resumed %s: %v", name, err)
		}
		if err := o.StopService(name); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, c, url); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a stopped %s: %v, want a refused connection", name, err)
		}
		if err := o.StopService(name); err == nil {
			t.Errorf("stopping a stopped %s worked", name)
		}
		if err := o.StartService(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, c, url); err != nil {
			t.Errorf("a started %s: %v", name, err)
		}
	}
	if err := o.StopService(lab.MariaDB); err != nil {
		t.Fatal(err)
	}
	if err := o.StartService(t.Context(), lab.MariaDB); err != nil {
		t.Fatal(err)
	}
	if err := o.StartService(t.Context(), "nova"); err == nil || !strings.Contains(err.Error(), "octavia") {
		t.Errorf("an unknown service's error names no others: %v", err)
	}
}

// ask sends a request that may take a second.
func ask(t *testing.T, c *lab.Client, url string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: trust(t, c)}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func trust(t *testing.T, c *lab.Client) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA()) {
		t.Fatal("the CA isn't PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// discoverer is who a clouds.yaml is for.
type discoverer struct {
	provider          *gophercloud.ProviderClient
	keystone, octavia *gophercloud.ServiceClient
}

func discover(t *testing.T, c *lab.Client, file []byte) discoverer {
	t.Helper()
	auth, endpoint, _, err := clouds.Parse(clouds.WithCloudsYAML(strings.NewReader(string(file))), clouds.WithCloudName("os-1"))
	if err != nil {
		t.Fatal(err)
	}
	auth.AllowReauth = true
	d := discoverer{}
	if d.provider, err = config.NewProviderClient(t.Context(), auth, config.WithTLSConfig(trust(t, c))); err != nil {
		t.Fatal(err)
	}
	if d.keystone, err = openstack.NewIdentityV3(d.provider, endpoint); err != nil {
		t.Fatal(err)
	}
	if d.octavia, err = openstack.NewLoadBalancerV2(d.provider, endpoint); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d discoverer) loadBalancers(t *testing.T) []string {
	t.Helper()
	pages, err := loadbalancers.List(d.octavia, nil).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := loadbalancers.ExtractLoadBalancers(pages)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, lb := range all {
		names = append(names, lb.Name)
	}
	slices.Sort(names)
	return names
}

// pages is how many pages the load balancers come in.
func (d discoverer) pages(t *testing.T) int {
	t.Helper()
	n := 0
	err := loadbalancers.List(d.octavia, nil).EachPage(t.Context(), func(context.Context, pagination.Page) (bool, error) {
		n++
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (d discoverer) tokenLifetime(t *testing.T) time.Duration {
	t.Helper()
	token, err := d.provider.GetAuthResult().(tokens.CreateResult).ExtractToken()
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(token.ExpiresAt)
}

func (d discoverer) projects(t *testing.T) []string {
	t.Helper()
	pages, err := projects.ListAvailable(d.keystone).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := projects.ExtractProjects(pages)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// members is the members' operating statuses by their names.
func (d discoverer) members(t *testing.T, poolID string) map[string]string {
	t.Helper()
	pages, err := pools.ListMembers(d.octavia, poolID, nil).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := pools.ExtractMembers(pages)
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[string]string{}
	for _, m := range all {
		statuses[m.Name] = m.OperatingStatus
	}
	return statuses
}
