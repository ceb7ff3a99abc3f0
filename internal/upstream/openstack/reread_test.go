package openstack

import (
	"maps"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// What Octavia's heartbeats change of a member shows nowhere but in the member. The first
// check of a member that was added, or of all of a pool that gets a monitor, is such a change.
func TestMembersThatRecover(t *testing.T) {
	down := func(status string, weight int, disabled bool) func(*openstacktest.Member) {
		return func(m *openstacktest.Member) { m.Operating, m.Weight, m.Disabled = status, weight, disabled }
	}
	for name, tc := range map[string]struct {
		member func(*openstacktest.Member)
		reread bool
	}{
		"OFFLINE until the first check":  {down("OFFLINE", 1, false), true},
		"ERROR":                          {down("ERROR", 1, false), true},
		"drains, though it has a weight": {down("DRAINING", 1, false), true},
		"drains":                         {down("DRAINING", 0, false), false},
		"drains, and is down":            {down("ERROR", 0, false), true},
		"disabled":                       {down("OFFLINE", 1, true), false},
		"not monitored":                  {down("NO_MONITOR", 1, false), false},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 3, Pools: 2, Members: 2})
			s := New(options(t, c))
			read(t, s)
			c.Change(func(s *openstacktest.State) {
				s.LoadBalancers[0].Touch(time.Now().Add(-5 * time.Second))
				tc.member(s.LoadBalancers[0].Pools[0].Members[0])
			})
			read(t, s)
			c.Requests()
			want := bulk
			if tc.reread {
				want = with(with(bulk, "members", 2), "loadbalancers/{id}", 1)
			}
			for range 2 {
				read(t, s)
				if got := c.Requests(); !maps.Equal(got, want) {
					t.Errorf("requests %v, want %v", got, want)
				}
			}
			c.Change(func(s *openstacktest.State) { down("ONLINE", 1, false)(s.LoadBalancers[0].Pools[0].Members[0]) })
			read(t, s)
			web, _ := s.Service(lbKey("team-0", 0))
			if _, unready := endpoints(web); tc.reread && len(unready) > 0 {
				t.Errorf("it has recovered, and isn't ready: %v", unready)
			}
			c.Requests()
			if read(t, s); tc.reread && !maps.Equal(c.Requests(), bulk) {
				t.Error("read again though all are well")
			}
		})
	}
}

// Members of a pool that nothing leads to don't matter.
func TestTroubleThatDoesntMatter(t *testing.T) {
	for name, change := range map[string]func(*openstacktest.LoadBalancer){
		"disabled load balancer": func(lb *openstacktest.LoadBalancer) { lb.Disabled = true },
		"disabled listener":      func(lb *openstacktest.LoadBalancer) { lb.Listeners[0].Disabled = true },
		"disabled pool":          func(lb *openstacktest.LoadBalancer) { lb.Pools[0].Disabled = true },
	} {
		c := startCloud(t, openstacktest.Size{Projects: 1, LoadBalancers: 1, Pools: 1, Members: 2})
		c.Change(func(s *openstacktest.State) {
			lb := s.LoadBalancers[0]
			lb.Operating, lb.Pools[0].Operating, lb.Pools[0].Members[0].Operating = "ERROR", "ERROR", "ERROR"
			change(lb)
		})
		s := New(options(t, c))
		read(t, s)
		c.Requests()
		if read(t, s); !maps.Equal(c.Requests(), bulk) {
			t.Errorf("%s: read again", name)
		}
	}
}

// A load balancer that is pending for ever is read ever less often, and has no part in how
// often the others are.
func TestPendingForEver(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.PollInterval = 20 * time.Second
	s := New(o)
	read(t, s)
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[0].Provisioning = "PENDING_UPDATE"
		s.LoadBalancers[0].Touch(time.Now().Add(-time.Hour))
	})
	soon := func(e *entry) time.Duration { return time.Until(e.due).Round(time.Second) }
	read(t, s)
	stuck := func() *entry { return s.inventory.Load().entries[openstacktest.ID("lb", 0)] }
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 20, 20} {
		if got := soon(stuck()); got != want*time.Second {
			t.Errorf("read again after %v, want %d s", got, want)
		}
		c.Requests()
		if read(t, s); c.Requests()["members"] > 0 {
			t.Error("read before its time")
		}
		stuck().due = time.Now()
		read(t, s)
	}
	s = New(o)
	read(t, s)
	stuck().due, stuck().attempts = time.Now().Add(20*time.Second), 9
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[1].Provisioning = "PENDING_UPDATE"
		s.LoadBalancers[1].Touch(time.Now())
	})
	read(t, s)
	if got := s.pause(s.inventory.Load(), 0).Round(time.Second); got != time.Second {
		t.Errorf("the other one is read again after %v", got)
	}
	c.Change(func(s *openstacktest.State) { s.LoadBalancers[0].Provisioning = "" })
	if read(t, s); stuck().attempts > 0 || !stuck().settled {
		t.Error("it isn't read again at once when it is at rest")
	}
}
