package openstack

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

func TestCycle(t *testing.T) {
	c := startCloud(t, small)
	s := New(options(t, c))
	read(t, s)
	if want := []mirror.Key{lbKey("team-0", 0), lbKey("team-1", 1)}; !slices.Equal(s.Keys(), want) {
		t.Fatalf("keys %v", s.Keys())
	}
	web, _ := s.Service(lbKey("team-0", 0))
	all, unready := endpoints(web)
	slices.Sort(all)
	if len(web.Ports) != 2 || len(unready) > 0 || !slices.Equal(all, []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
		t.Errorf("got %s", text(web))
	}
}

// bulk is what a cycle asks in an unchanged world, however large it is.
var bulk = map[string]int{"auth/projects": 1, "loadbalancers?project_id": 1, "loadbalancers": 1, "listeners": 1, "pools": 1}

func with(m map[string]int, kind string, n int) map[string]int {
	m = maps.Clone(m)
	m[kind] += n
	return m
}

// What a cycle costs: members are read of the load balancers alone that may have changed.
func TestRequests(t *testing.T) {
	c := startCloud(t, openstacktest.Size{Projects: 3, LoadBalancers: 2, Pools: 2, Members: 2})
	s := New(options(t, c))
	steps := []struct {
		name   string
		change func(*openstacktest.State)
		want   map[string]int
	}{
		{"first", func(*openstacktest.State) {}, with(with(with(bulk, "POST auth/tokens", 1), "members", 12), "loadbalancers", 1)},
		{"unchanged", func(*openstacktest.State) {}, bulk},
		{"a change", func(s *openstacktest.State) { s.LoadBalancers[3].Touch(time.Now().Add(-5 * time.Second)) }, with(with(bulk, "members", 2), "loadbalancers/{id}", 1)},
		{"unchanged since", func(*openstacktest.State) {}, bulk},
		{"a pool is degraded", func(s *openstacktest.State) { s.LoadBalancers[0].Pools[0].Operating = "DEGRADED" }, with(with(bulk, "members", 2), "loadbalancers/{id}", 1)},
		{"it stays so", func(*openstacktest.State) {}, with(with(bulk, "members", 2), "loadbalancers/{id}", 1)},
		{"it recovers", func(s *openstacktest.State) { s.LoadBalancers[0].Pools[0].Operating = "" }, with(with(bulk, "members", 2), "loadbalancers/{id}", 1)},
		{"unchanged again", func(*openstacktest.State) {}, bulk},
		{"a disabled pool's members aren't needed", func(s *openstacktest.State) {
			s.LoadBalancers[5].Pools[0].Disabled = true
			s.LoadBalancers[5].Touch(time.Now().Add(-4 * time.Second))
		}, with(with(bulk, "members", 1), "loadbalancers/{id}", 1)},
		{"one is gone", func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 1)) }, with(bulk, "loadbalancers/{id}", 1)},
		{"it stays gone", func(*openstacktest.State) {}, bulk},
		{"many change", func(s *openstacktest.State) {
			for _, lb := range s.LoadBalancers {
				lb.Touch(time.Now().Add(-3 * time.Second))
			}
		}, with(with(bulk, "members", 9), "loadbalancers", 1)},
	}
	for _, step := range steps {
		c.Change(step.change)
		c.Requests()
		read(t, s)
		if got := c.Requests(); !maps.Equal(got, step.want) {
			t.Errorf("%s: requests %v, want %v", step.name, got, step.want)
		}
	}
	if n := s.session.requests.Load(); n < 12 {
		t.Errorf("%d requests counted", n)
	}
}

func TestHealthInterval(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.HealthInterval = time.Nanosecond
	s := New(o)
	read(t, s)
	c.Change(func(s *openstacktest.State) { s.LoadBalancers[0].Pools[0].Members[0].Operating = "DRAINING" })
	read(t, s)
	web, _ := s.Service(lbKey("team-0", 0))
	if _, unready := endpoints(web); !slices.Equal(unready, []string{"10.0.0.0"}) {
		t.Errorf("not ready: %v", unready)
	}
}

// Pages as small as a server may make them, the last one exactly full or not.
func TestPages(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: n, Pools: 1, Members: n}, func(c *openstacktest.Cloud) { c.PageLimit = 2 })
			s := New(options(t, c))
			read(t, s)
			if len(s.Keys()) != n {
				t.Errorf("keys %v", s.Keys())
			}
			web, _ := s.Service(lbKey("team-0", 0))
			if all, _ := endpoints(web); len(all) != n {
				t.Errorf("endpoints %v", all)
			}
			if got := c.Requests()["listeners"]; got != n/2+1 {
				t.Errorf("%d pages", got)
			}
		})
	}
}

// Whatever request of a cycle fails, nothing is known of the cloud at first, and what was known stands later on.
func TestWholeOrNothing(t *testing.T) {
	garbage := says(http.StatusOK, `{"loadbalancers":{},"versions":[]}`)
	broken := says(http.StatusInternalServerError, `{"faultcode":"Server","faultstring":"(pymysql.err.OperationalError) SELECT load_balancer.id","debuginfo":null}`)
	cut := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"members":[]`))
		return true
	}
	page2 := func(w http.ResponseWriter, r *http.Request) bool { return r.URL.Query().Has("marker") && broken(w, r) }
	var nth atomic.Int32
	secondPool := func(w http.ResponseWriter, r *http.Request) bool { return nth.Add(1)%3 == 2 && broken(w, r) }
	type fault struct {
		name string
		openstacktest.Fault
	}
	var faults []fault
	for _, kind := range []string{"auth/projects", "loadbalancers?project_id", "loadbalancers", "listeners", "pools", "members"} {
		faults = append(faults, fault{kind + " broken", on(kind, broken)}, fault{kind + " cut", on(kind, cut)})
		if kind != "loadbalancers?project_id" { // whose status alone counts
			faults = append(faults, fault{kind + " garbage", on(kind, garbage)})
		}
	}
	for _, kind := range []string{"loadbalancers", "listeners", "pools", "members"} {
		faults = append(faults, fault{"page 2 of " + kind, on(kind, page2)})
	}
	faults = append(faults, fault{"one pool's members", on("members", secondPool)})
	c := startCloud(t, openstacktest.Size{Projects: 2, LoadBalancers: 2, Pools: 2, Members: 3}, func(c *openstacktest.Cloud) { c.PageLimit = 2 })
	known := New(options(t, c))
	before := text(read(t, known).services)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			defer c.Inject(nil)
			c.Inject(f.Fault)
			fresh := New(options(t, c))
			if err := fails(t, fresh); strings.Contains(err.Error(), "SELECT") || len(fresh.Keys()) > 0 {
				t.Errorf("keys %v, error %v", fresh.Keys(), err)
			}
			c.Change(func(s *openstacktest.State) {
				for i, lb := range s.LoadBalancers {
					lb.Touch(c.Now().Add(time.Duration(-10*i-10) * time.Second))
				}
			})
			c.Advance(time.Hour)
			known.session.logout() // its token has expired
			_ = fails(t, known)
			if got := text(known.inventory.Load().services); got != before {
				t.Errorf("the inventory became %s", got)
			}
			c.Inject(nil)
			if got := text(read(t, known).services); got != before {
				t.Errorf("after recovery it is %s", got)
			}
		})
	}
}

// A listing that leaves something out, without a word, takes nothing away. Projects are left
// out once: for good they have disappeared.
func TestListingLeavesOut(t *testing.T) {
	// drop takes objects and links out of the answers of a kind.
	drop := func(c *openstacktest.Cloud, kind string, want func(i int) bool) openstacktest.Fault {
		var n atomic.Int32
		return on(kind, func(w http.ResponseWriter, r *http.Request) bool {
			if n.Add(1) > 1 && kind == "auth/projects" {
				return false
			}
			edit(c, w, r, func(list string, answer map[string]any) {
				var kept []any
				for i, o := range answer[list].([]any) {
					if want(i) {
						kept = append(kept, o)
					}
				}
				answer[list] = append([]any{}, kept...)
				answer[list+"_links"] = []any{}
			})
			return true
		})
	}
	for _, kind := range []string{"auth/projects", "loadbalancers", "listeners", "pools", "members"} {
		for name, want := range map[string]func(int) bool{
			"all": func(int) bool { return false }, "the first": func(i int) bool { return i > 0 }, "the next pages": func(i int) bool { return i < 2 },
		} {
			t.Run(name+" of "+kind, func(t *testing.T) {
				c := startCloud(t, openstacktest.Size{Projects: 3, LoadBalancers: 1, Pools: 3, Members: 3})
				o := options(t, c)
				o.HealthInterval = time.Nanosecond
				s := New(o)
				before := read(t, s)
				c.Inject(drop(c, kind, want))
				found, err := s.cycle(t.Context(), before)
				if err != nil {
					return
				}
				for k, old := range before.services {
					got := found.services[k]
					if got == nil || text(got.Ports) != text(old.Ports) || text(got.Slices) != text(old.Slices) || got.Refused {
						t.Errorf("%v became %s", k, text(got))
					}
				}
			})
		}
	}
}

// A load balancer that is changing keeps the Services that it had.
func TestPending(t *testing.T) {
	c := startCloud(t, small)
	s := New(options(t, c))
	before := text(read(t, s).services)
	change := func(f func(*openstacktest.LoadBalancer)) {
		c.Change(func(s *openstacktest.State) { f(s.LoadBalancers[0]) })
	}
	change(func(lb *openstacktest.LoadBalancer) {
		lb.Provisioning = "PENDING_UPDATE"
		lb.Touch(time.Now())
		lb.Pools[0].Members = nil
	})
	for range 3 {
		found := read(t, s)
		if got := text(found.services); got != before || !unsettled(found) {
			t.Errorf("unsettled %t, got %s", unsettled(found), got)
		}
	}
	change(func(lb *openstacktest.LoadBalancer) { lb.Provisioning = "ACTIVE" })
	c.Advance(3 * time.Second)
	if found := read(t, s); unsettled(found) {
		t.Error("not settled though it is active")
	}
	web, _ := s.Service(lbKey("team-0", 0))
	if all, _ := endpoints(web); len(all) != 2 {
		t.Errorf("endpoints %v", all)
	}
	change(func(lb *openstacktest.LoadBalancer) { lb.Provisioning = "PENDING_DELETE" })
	if read(t, s); len(s.Keys()) != 2 {
		t.Errorf("keys %v of a load balancer that is being deleted", s.Keys())
	}
	c.Change(func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 0)) })
	if read(t, s); !slices.Equal(s.Keys(), []mirror.Key{lbKey("team-1", 1)}) {
		t.Errorf("keys %v of a load balancer that is deleted", s.Keys())
	}
}

// Changes that come between the requests of a cycle.
func TestChangeDuringCycle(t *testing.T) {
	type change func(*openstacktest.State)
	for name, tc := range map[string]struct {
		before string // kind of the request that the change precedes
		change change
		gone   bool // the load balancer is
	}{
		"member comes before the members are read": {"members", func(s *openstacktest.State) {
			s.LoadBalancers[0].Touch(time.Now())
			s.LoadBalancers[0].Pools[0].Members = append(s.LoadBalancers[0].Pools[0].Members, &openstacktest.Member{ID: "x", Address: "10.9.9.9", Port: 1, Weight: 1})
		}, false},
		"weight changes after they were read": {"loadbalancers/{id}", func(s *openstacktest.State) {
			s.LoadBalancers[0].Touch(time.Now())
			s.LoadBalancers[0].Pools[0].Members[0].Weight = 7
		}, false},
		"a change begins after they were read": {"loadbalancers/{id}", func(s *openstacktest.State) { s.LoadBalancers[0].Provisioning = "PENDING_UPDATE" }, false},
		"a pool goes before the pools are listed": {"pools", func(s *openstacktest.State) {
			lb := s.LoadBalancers[0]
			lb.Touch(time.Now())
			lb.Listeners[0].Pool, lb.Pools = "", lb.Pools[1:]
		}, false},
		"a pool goes before its members are read": {"members", func(s *openstacktest.State) {
			lb := s.LoadBalancers[0]
			lb.Touch(time.Now())
			lb.Listeners[0].Pool, lb.Pools = "", lb.Pools[1:]
		}, false},
		"the load balancer goes before it is read again": {"loadbalancers/{id}", func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 0)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, small)
			o := options(t, c)
			o.PollInterval = time.Nanosecond
			s := New(o)
			first := read(t, s)
			c.Change(func(s *openstacktest.State) { s.LoadBalancers[0].Touch(time.Now().Add(-10 * time.Second)) })
			var done atomic.Bool
			c.Inject(on(tc.before, func(http.ResponseWriter, *http.Request) bool {
				if !done.Swap(true) {
					c.Change(tc.change)
				}
				return false
			}))
			found := read(t, s)
			if !done.Load() || !unsettled(found) || text(found.services) != text(first.services) {
				t.Fatalf("change made: %t; unsettled %t; got %s", done.Load(), unsettled(found), text(found.services))
			}
			c.Change(func(s *openstacktest.State) {
				if lb := s.LoadBalancer(openstacktest.ID("lb", 0)); lb != nil {
					lb.Provisioning = ""
				}
			})
			c.Advance(3 * time.Second)
			found = read(t, s)
			if unsettled(found) || (found.services[lbKey("team-0", 0)] == nil) != tc.gone {
				t.Errorf("unsettled %t; got %s", unsettled(found), text(found.services))
			}
			fresh := New(o)
			if want := text(read(t, fresh).services); text(found.services) != want {
				t.Errorf("got %s, want %s", text(found.services), want)
			}
		})
	}
}

// Where many are read, all load balancers are listed again.
func TestChangeDuringFirstCycle(t *testing.T) {
	for name, change := range map[string]func(*openstacktest.State){
		"changes": func(s *openstacktest.State) { s.LoadBalancers[0].Touch(time.Now().Add(-time.Minute)) },
		"goes":    func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 0)) },
	} {
		c := startCloud(t, small)
		s := New(options(t, c))
		n := 0
		c.Inject(on("loadbalancers", func(http.ResponseWriter, *http.Request) bool {
			if n++; n == 2 {
				c.Change(change)
			}
			return false
		}))
		found := read(t, s)
		if got := found.services[lbKey("team-0", 0)]; n != 2 || got == nil || !got.Unsettled || found.services[lbKey("team-1", 1)].Unsettled {
			t.Errorf("%s: got %s", name, text(found.services))
		}
	}
}
