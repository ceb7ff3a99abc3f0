package openstack

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// However many requests find the token expired, one new token is asked for.
func TestTokenIsRenewedOnce(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 32, Pools: 2, Members: 1})
	s := New(options(t, c))
	read(t, s)
	together := make(chan struct{})
	var waiting atomic.Int32
	var once sync.Once
	for name, fault := range map[string]openstacktest.Fault{
		"between cycles": nil,
		// All that are under way are there when the token is revoked.
		"many at once": on("members", func(http.ResponseWriter, *http.Request) bool {
			if waiting.Add(1) == parallel {
				once.Do(func() { c.RevokeTokens(); close(together) })
			}
			select {
			case <-together:
			case <-time.After(upstreamtest.Limit):
			}
			return false
		}),
	} {
		t.Run(name, func(t *testing.T) {
			c.Inject(fault)
			defer c.Inject(nil)
			if fault == nil {
				c.RevokeTokens()
			}
			c.Requests()
			c.Change(func(s *openstacktest.State) {
				for _, lb := range s.LoadBalancers {
					lb.Touch(lb.Updated.Add(time.Second))
				}
			})
			read(t, s)
			if got := c.Requests()["POST auth/tokens"]; got != 1 || len(s.Keys()) != 32 {
				t.Errorf("%d tokens, %d keys", got, len(s.Keys()))
			}
		})
	}
}

// A token is renewed before it expires.
func TestTokenIsRenewedInTime(t *testing.T) {
	c := startCloud(t, small, func(c *openstacktest.Cloud) { c.TokenLife = time.Minute })
	s := New(options(t, c))
	read(t, s)
	if left := time.Until(s.session.renew); left > 45*time.Second || left < 40*time.Second {
		t.Errorf("renewed in %v", left)
	}
	read(t, s)
	if got := c.Requests()["POST auth/tokens"]; got != 1 {
		t.Errorf("%d tokens", got)
	}
	s.session.renew = time.Now()
	read(t, s)
	if got := c.Requests()["POST auth/tokens"]; got != 1 {
		t.Errorf("%d tokens", got)
	}
}

// Credentials that are refused aren't tried by each of the requests that are under way.
func TestWrongPassword(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 32, Pools: 1, Members: 1})
	s := New(options(t, c))
	read(t, s)
	c.Requests()
	c.Change(func(s *openstacktest.State) { s.PasswordChanged = true })
	c.RevokeTokens()
	if err := fails(t, s); err.Reason != upstream.ReasonUnauthorized || !strings.HasPrefix(err.Error(), "Keystone answered 401") {
		t.Errorf("got %v", err)
	}
	for range 3 {
		_ = fails(t, s)
	}
	if got := c.Requests()["POST auth/tokens"]; got != 1 {
		t.Errorf("%d attempts", got)
	}
	_, r := run(t, options(t, c))
	r.WaitFor(t, "Unauthorized")
	if got := c.Requests()["POST auth/tokens"]; got > 1 {
		t.Errorf("%d attempts of a fresh Source", got)
	}
	if err := r.Seen().Failures[0]; err.Hint == "" || strings.Contains(err.Error(), openstacktest.Password) {
		t.Errorf("got %q", err)
	}
}

// While members are read by many at once.
func TestPasswordChangesDuringCycle(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 64, Pools: 1, Members: 1})
	s := New(options(t, c))
	var once sync.Once
	c.Inject(on("members", func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() {
			c.Change(func(s *openstacktest.State) { s.PasswordChanged = true })
			c.RevokeTokens()
		})
		return false
	}))
	if err := fails(t, s); err.Reason != upstream.ReasonUnauthorized {
		t.Errorf("got %v", err)
	}
	if got := c.Requests()["POST auth/tokens"]; got != 2 {
		t.Errorf("%d attempts, want the first and one more", got)
	}
}

func TestRedirectsArentFollowed(t *testing.T) {
	var reached atomic.Int32
	trap := startCloud(t, small)
	trap.Inject(func(http.ResponseWriter, *http.Request) bool { reached.Add(1); return false })
	for _, kind := range []string{"POST auth/tokens", "auth/projects", "loadbalancers", "members"} {
		t.Run(kind, func(t *testing.T) {
			c := startCloud(t, small)
			c.Inject(on(kind, func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, trap.URL()+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			}))
			if err := fails(t, New(options(t, c))); !strings.Contains(err.Hint, "redirects") {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests followed", n)
	}
}

func TestEndpoints(t *testing.T) {
	c := startCloud(t, small)
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"region":          {func(*Config) {}, ""},
		"interface":       {func(c *Config) { c.Interface = "internal" }, ""},
		"no such region":  {func(c *Config) { c.Region = "RegionNone" }, `in the region "RegionNone"`},
		"several regions": {func(c *Config) { c.Region = "" }, "in several regions"},
		"bad interface":   {func(c *Config) { c.Interface = "x" }, "interface x"},
	} {
		o := options(t, c)
		tc.change(o.Config)
		s := New(o)
		err := s.session.authenticate(t.Context())
		if tc.says == "" {
			if err != nil || s.session.octavia != c.URL()+"/load-balancer/v2.0/lbaas/" || s.session.identity != c.URL()+"/identity/v3/" || s.session.project.Name != "team-0" {
				t.Errorf("%s: %+v, %v", name, s.session, err)
			}
			continue
		}
		if e := classify(err); err == nil || !strings.Contains(e.Error(), tc.says) || !strings.Contains(e.Hint, "region_name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The first of several endpoints in one region counts, whatever comes before it.
func TestEndpointsOfOneRegion(t *testing.T) {
	face := func(interf, region, url string) tokens.Endpoint {
		return tokens.Endpoint{Interface: interf, Region: region, RegionID: region, URL: url}
	}
	s := &session{config: &Config{Interface: "public"}}
	got := s.endpoints(&tokens.ServiceCatalog{Entries: []tokens.CatalogEntry{
		{Type: "network", Endpoints: []tokens.Endpoint{face("public", "a", "https://other")}},
		{Type: "load-balancer", Endpoints: []tokens.Endpoint{face("internal", "a", "https://0"), face("public", "a", "https://1"), face("public", "a", "https://2")}},
		{Type: "load-balancer", Endpoints: []tokens.Endpoint{face("public", "a", "https://3")}},
	}}, "load-balancer")
	if !maps.Equal(got, map[string]string{"a": "https://1"}) {
		t.Errorf("got %v", got)
	}
}

func TestUnscopedToken(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.Config.Auth.Scope = nil
	if err := fails(t, New(o)); err.Reason != upstream.ReasonUnauthorized || !strings.Contains(err.Error(), "scoped") {
		t.Errorf("got %v", err)
	}
}

func TestApplicationCredential(t *testing.T) {
	c := startCloud(t, small)
	yaml := strings.NewReplacer("username: gimbal, user_domain_id: default, password: "+openstacktest.Password, "application_credential_id: x, application_credential_secret: "+openstacktest.Password).Replace(string(c.CloudsYAML()))
	config, err := ParseClouds([]byte(yaml), "", c.CA(), "", upstream.Allow{})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, c)
	o.Config = config
	s := New(o)
	if read(t, s); len(s.Keys()) != 2 {
		t.Errorf("keys %v", s.Keys())
	}
}

func TestUnknownAuthority(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.Config.TLS.RootCAs = nil
	if err := fails(t, New(o)); err.Reason != upstream.ReasonUnknownAuthority || !strings.Contains(err.Hint, "caKey") {
		t.Errorf("got %v", err)
	}
}
