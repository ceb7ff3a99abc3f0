package openstack

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// Neutron leaves out other projects' floating addresses without a word.
func TestSeesFloating(t *testing.T) {
	for name, tc := range map[string]struct {
		state func(*openstacktest.State)
		fault openstacktest.Fault
		alter func(*Options)
		asked int             // for ports
		want  upstream.Reason // empty: a complete inventory
	}{
		"no floating addresses": {asked: 1},
		"own only":              {state: func(s *openstacktest.State) { s.OwnNetworkOnly = true }, asked: 1, want: upstream.ReasonForbidden},
		"own only, one's own": {state: func(s *openstacktest.State) {
			s.OwnNetworkOnly, s.FloatingIPs = true, []openstacktest.FloatingIP{{ID: "f", Address: "203.0.113.1", Port: "p0"}}
		}, asked: 1, want: upstream.ReasonForbidden},
		"others', of nothing": {state: func(s *openstacktest.State) {
			s.FloatingIPs = []openstacktest.FloatingIP{{ID: "f", Address: "203.0.113.1", Project: "x"}}
		}},
		"own project only": {state: func(s *openstacktest.State) { s.OwnNetworkOnly = true }, alter: func(o *Options) { o.Selection.Include = []string{"team-0"} }},
		"refused projects": {state: func(s *openstacktest.State) { s.OwnNetworkOnly = true; s.Projects[1].Name = "not a label" }},
		"no ports":         {state: func(s *openstacktest.State) { s.OwnNetworkOnly = true; s.LoadBalancers[1].Port = "" }},
		"members":          {state: func(s *openstacktest.State) { s.OwnNetworkOnly = true }, alter: func(o *Options) { o.Addressing = v1alpha1.AddressingMember }},
		"an additional address": {state: func(s *openstacktest.State) {
			s.OwnNetworkOnly, s.LoadBalancers[1].Port = true, ""
			s.LoadBalancers[1].AdditionalVIPs = []openstacktest.VIP{{Address: "192.0.2.9", Port: "p9"}}
		}, asked: 1, want: upstream.ReasonForbidden},
		"not what was asked for": {fault: on("ports", says(http.StatusOK, `{"ports":[{"id":"mine"}]}`)), asked: 1, want: upstream.ReasonForbidden},
		"too much":               {fault: on("ports", says(http.StatusOK, `{"ports":[{"id":"p1"},{"id":"p2"}]}`)), asked: 1, want: upstream.ReasonServerError},
		"forbidden":              {fault: on("ports", says(http.StatusForbidden, `{}`)), asked: 1, want: upstream.ReasonForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, small, func(c *openstacktest.Cloud) { c.Neutron = true })
			c.Change(func(s *openstacktest.State) {
				s.LoadBalancers[0].Port, s.LoadBalancers[1].Port = "p0", "p1"
				if tc.state != nil {
					tc.state(s)
				}
			})
			c.Inject(tc.fault)
			o := options(t, c)
			o.Addressing = v1alpha1.AddressingVIP
			if tc.alter != nil {
				tc.alter(&o)
			}
			s := New(o)
			if tc.want == "" {
				read(t, s)
			} else if err := fails(t, s); err.Reason != tc.want || tc.fault == nil && !strings.Contains(err.Hint, "Neutron") {
				t.Errorf("got %s: %v", err.Reason, err)
			}
			if n := c.Requests()["ports"]; n != tc.asked {
				t.Errorf("asked for ports %d times, want %d", n, tc.asked)
			}
		})
	}
}

// A right that ends takes no floating address away; the address's end does.
func TestFloatingAddressGone(t *testing.T) {
	c := startCloud(t, small, func(c *openstacktest.Cloud) { c.Neutron = true })
	web := openstacktest.Generate(small).LoadBalancers[1]
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[1].Port = "p1"
		s.FloatingIPs = []openstacktest.FloatingIP{{ID: "f", Address: "203.0.113.1", Port: "p1", Project: web.Project}}
	})
	o := options(t, c)
	o.Addressing = v1alpha1.AddressingVIP
	s := New(o)
	has := func(want string) {
		t.Helper()
		service, _ := s.Service(lbKey("team-1", 1))
		if got, _ := endpoints(service); !slices.Equal(got, []string{want}) {
			t.Errorf("the addresses are %v, want %s", got, want)
		}
	}
	read(t, s)
	has("203.0.113.1")
	c.Change(func(s *openstacktest.State) { s.OwnNetworkOnly = true })
	if err := fails(t, s); err.Reason != upstream.ReasonForbidden {
		t.Errorf("got %v", err)
	}
	has("203.0.113.1")
	c.Change(func(s *openstacktest.State) { s.OwnNetworkOnly, s.FloatingIPs = false, nil })
	read(t, s)
	has(web.Address)
}

// The URL stays short in a cloud of any size.
func TestPortsAsked(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 2, LoadBalancers: 2 * portsAsked}, func(c *openstacktest.Cloud) { c.Neutron = true })
	c.Change(func(s *openstacktest.State) {
		for _, lb := range s.LoadBalancers {
			lb.Port = lb.ID
		}
	})
	asked := 0
	c.Inject(on("ports", func(_ http.ResponseWriter, r *http.Request) bool {
		asked = len(r.URL.Query()["id"])
		return false
	}))
	o := options(t, c)
	o.Addressing = v1alpha1.AddressingVIP
	read(t, New(o))
	if asked != portsAsked {
		t.Errorf("asked for %d ports", asked)
	}
}
