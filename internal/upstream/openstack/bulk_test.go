package openstack

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// A project that disappears has its Services removed: the engine's deletion guard is what
// stands between it and the tier. One that is selected by "*" is told of.
func TestProjectDisappears(t *testing.T) {
	for name, tc := range map[string]struct {
		include []string
		told    bool
	}{
		"all":     {nil, true},
		"by name": {[]string{"team-0", "team-1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, small)
			o := options(t, c)
			o.Selection.Include = tc.include
			s := New(o)
			before := read(t, s)
			c.Change(func(s *openstacktest.State) { s.Projects = s.Projects[:1] })
			found := read(t, s)
			if found.services[lbKey("team-0", 0)] == nil || found.services[lbKey("team-1", 1)] != nil {
				t.Errorf("keys %v", found.keys())
			}
			told := found.services[lbKey(fmt.Sprintf("%032x", 2), 1)]
			if (told != nil) != tc.told || told != nil && (!told.Refused || told.Refusals[0].Reason != ReasonUnknownProject) {
				t.Errorf("told of: %s", text(told))
			}
			c.Change(func(s *openstacktest.State) { s.Projects = openstacktest.Generate(small).Projects })
			if got := read(t, s).services[lbKey("team-1", 1)]; text(got) != text(before.services[lbKey("team-1", 1)]) {
				t.Errorf("it is back as %s", text(got))
			}
		})
	}
}

// A listing that leaves out the project of the token itself isn't whole.
func TestOwnProjectIsListed(t *testing.T) {
	for name, body := range map[string]string{"none": `{"projects":[]}`, "others": `{"projects":[{"id":"x","name":"web","domain_id":"default"}]}`} {
		c := startCloud(t, small)
		c.Inject(on("auth/projects", says(http.StatusOK, body)))
		if err := fails(t, New(options(t, c))); err.Reason != upstream.ReasonServerError {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What is listed once and not the other time is neither there nor gone.
func TestProjectsDiffer(t *testing.T) {
	c := startCloud(t, small)
	s := New(options(t, c))
	read(t, s)
	var n atomic.Int32
	c.Inject(on("auth/projects", func(http.ResponseWriter, *http.Request) bool {
		first := n.Add(1)%2 == 1
		c.Change(func(s *openstacktest.State) {
			s.Projects = openstacktest.Generate(small).Projects
			if first {
				s.Projects = s.Projects[:1]
			}
		})
		return false
	}))
	if err := fails(t, s); n.Load() != 2 || len(s.Keys()) != 2 {
		t.Errorf("%d listings, keys %v, error %v", n.Load(), s.Keys(), err)
	}
}

// A project that is made while another's deletion is made sure of is no doubt about it.
func TestProjectIsMadeMeanwhile(t *testing.T) {
	c := startCloud(t, small)
	s := New(options(t, c))
	read(t, s)
	var n atomic.Int32
	c.Inject(on("auth/projects", func(http.ResponseWriter, *http.Request) bool {
		second := n.Add(1) == 2
		c.Change(func(s *openstacktest.State) {
			s.Projects = openstacktest.Generate(small).Projects[:1]
			if second {
				s.Projects = append(s.Projects, openstacktest.Project{ID: "made-meanwhile", Name: "team-9", Domain: "default"})
			}
		})
		return false
	}))
	found := read(t, s)
	if n.Load() != 2 || found.services[lbKey("team-1", 1)] != nil || len(found.projects) != 2 {
		t.Errorf("%d listings, keys %v, projects %v", n.Load(), found.keys(), found.projects)
	}
}

func TestVIP(t *testing.T) {
	for name, tc := range map[string]struct {
		neutron bool
		want    []string
	}{
		"floating":    {true, []string{"2001:db8::7", "203.0.113.1"}},
		"not at all":  {true, []string{"2001:db8::7", "192.0.2.1"}},
		"no Neutron":  {false, []string{"2001:db8::7", "192.0.2.1"}},
		"from page 2": {true, []string{"2001:db8::7", "203.0.113.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 1, Pools: 1, Members: 1}, func(c *openstacktest.Cloud) { c.Neutron, c.PageLimit = tc.neutron, 1 })
			c.Change(func(s *openstacktest.State) {
				s.LoadBalancers[0].Port = "p1"
				s.LoadBalancers[0].AdditionalVIPs = []openstacktest.VIP{{Address: "192.0.2.7"}, {Address: "2001:DB8::7"}}
				s.FloatingIPs = []openstacktest.FloatingIP{{ID: "f0", Address: "203.0.113.9"}}
				if name != "not at all" {
					s.FloatingIPs = append(s.FloatingIPs, openstacktest.FloatingIP{ID: "f1", Address: "203.0.113.1", Port: "p1"})
				}
			})
			o := options(t, c)
			o.Addressing = v1alpha1.AddressingVIP
			s := New(o)
			read(t, s)
			web, _ := s.Service(lbKey("team-0", 0))
			all, unready := endpoints(web)
			slices.Sort(all)
			slices.Sort(tc.want)
			if !slices.Equal(all, tc.want) || len(unready) > 0 || len(web.Ports) != 1 {
				t.Errorf("got %s", text(web))
			}
			requests := c.Requests()
			if requests["pools"]+requests["members"] > 0 || (requests["floatingips"] > 0) != tc.neutron {
				t.Errorf("requests %v", requests)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	limits := func(change func(*upstream.Limits)) upstream.Limits {
		l := upstream.DefaultLimits()
		change(&l)
		return l
	}
	for name, change := range map[string]func(*upstream.Limits){
		"load balancers":               func(l *upstream.Limits) { l.Services = 3 },
		"listeners":                    func(l *upstream.Limits) { l.Slices = 7 },
		"members of one pool":          func(l *upstream.Limits) { l.Endpoints = 1 },
		"members of all":               func(l *upstream.Limits) { l.Endpoints = 15 },
		"bytes":                        func(l *upstream.Limits) { l.Bytes = 3000 },
		"bytes of one pool's members":  func(l *upstream.Limits) { l.Bytes = 6_000 },
		"none of what isn't mentioned": func(l *upstream.Limits) { *l = upstream.Limits{Services: 4} },
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, openstacktest.Size{Projects: 2, LoadBalancers: 2, Pools: 2, Members: 2})
			o := options(t, c)
			o.Limits = limits(change)
			if err := fails(t, New(o)); err.Reason != upstream.ReasonTooLarge {
				t.Errorf("got %v", err)
			}
		})
	}
	c := startCloud(t, openstacktest.Size{Projects: 2, LoadBalancers: 2, Pools: 2, Members: 2})
	o := options(t, c)
	o.Limits = limits(func(l *upstream.Limits) { l.Services, l.Slices, l.Endpoints = 4, 8, 16 })
	read(t, New(o))
	// What gives no Services and no endpoints takes memory too.
	c.Change(func(s *openstacktest.State) {
		for _, lb := range s.LoadBalancers {
			for _, p := range lb.Pools {
				for _, m := range p.Members {
					m.Disabled = true
				}
			}
		}
	})
	o.Limits.Endpoints = 15
	if err := fails(t, New(o)); err.Reason != upstream.ReasonTooLarge {
		t.Errorf("disabled members: got %v", err)
	}
	// What isn't selected counts little.
	o.Limits = limits(func(l *upstream.Limits) { l.Services = 2 })
	o.Selection.Include = []string{"team-0"}
	read(t, New(o))
}

// Lists within an answer come in any order.
func TestOrderDoesntMatter(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 3, Pools: 3, Members: 3})
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[0].Tags = []string{"a=1", "b=2", "a=3"}
		s.LoadBalancers[0].AdditionalVIPs = []openstacktest.VIP{{Address: "192.0.2.9"}, {Address: "192.0.2.8"}}
	})
	s := New(options(t, c))
	before := text(read(t, s).services)
	c.Requests()
	c.Inject(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			return false
		}
		edit(c, w, r, func(list string, answer map[string]any) { answer[list] = reversed(answer[list]) })
		return true
	})
	if got := text(read(t, s).services); got != before {
		t.Errorf("got %s", got)
	}
	if got := c.Requests(); !maps.Equal(got, bulk) {
		t.Errorf("requests %v", got)
	}
	if got := text(read(t, New(options(t, c))).services); got != before {
		t.Errorf("a fresh Source got %s", got)
	}
}

// reversed reverses all lists of a JSON value.
func reversed(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = reversed(v[i])
		}
		slices.Reverse(v)
	case map[string]any:
		for k := range v {
			v[k] = reversed(v[k])
		}
	}
	return v
}
