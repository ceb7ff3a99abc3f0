package openstack

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func TestFirstView(t *testing.T) {
	c := startCloud(t, small)
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	if want := []mirror.Key{lbKey("team-0", 0), lbKey("team-1", 1)}; !slices.Equal(s.Keys(), want) {
		t.Errorf("keys %v", s.Keys())
	}
	got := r.Seen()
	if len(got.Changed)+len(got.Failures) > 0 {
		t.Errorf("changed %v, failures %v", got.Changed, got.Failures)
	}
	// A token, the bulk, four pools' members, and the load balancers again.
	if first := got.Cycles[0]; first.Requests != 11 || first.Duration <= 0 {
		t.Errorf("cost %+v", first)
	}
	if _, ok := s.Service(mirror.Key{Namespace: "team-0", Name: "x"}); ok {
		t.Error("there is a Service that there isn't")
	}
}

func TestChangesAreSeen(t *testing.T) {
	c := startCloud(t, small)
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	r.WaitFor(t, upstreamtest.Complete)
	if got := r.Seen(); len(got.Changed) > 0 {
		t.Errorf("changed %v in an unchanged world", got.Changed)
	}
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[0].Pools[1].Members[0].Weight = 5
		s.LoadBalancers[0].Touch(time.Now())
	})
	r.Wait(t, "change", func(got upstreamtest.Reports) bool { return len(got.Changed) > 0 })
	web, _ := s.Service(lbKey("team-0", 0))
	if got := r.Seen().Changed; !slices.Equal(got, []mirror.Key{lbKey("team-0", 0)}) || !strings.Contains(summary(web), "*5") {
		t.Errorf("changed %v, got %s", got, summary(web))
	}
	c.Change(func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 1)) })
	r.Wait(t, "deletion", func(got upstreamtest.Reports) bool { return slices.Contains(got.Changed, lbKey("team-1", 1)) })
	if _, ok := s.Service(lbKey("team-1", 1)); ok {
		t.Error("the deleted load balancer's Service is still there")
	}
}

// A cycle that fails leaves the inventory as it was, for as long as it fails, and then goes on.
func TestFailureAndRecovery(t *testing.T) {
	c := startCloud(t, small, func(c *openstacktest.Cloud) { c.PageLimit = 1 })
	o := options(t, c)
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers = s.LoadBalancers[:1]
		s.LoadBalancers[0].Touch(time.Now().Add(-10 * time.Second))
		s.LoadBalancers[0].Pools[0].Members = nil
	})
	c.Inject(on("members", says(http.StatusInternalServerError, "")))
	r.WaitFor(t, "ServerError")
	r.WaitFor(t, "ServerError")
	if got := r.Seen(); len(s.Keys()) != 2 || len(got.Changed) > 0 {
		t.Errorf("keys %v, changed %v", s.Keys(), got.Changed)
	}
	c.Inject(nil)
	r.WaitFor(t, upstreamtest.Complete)
	if got := r.Seen(); !slices.Equal(s.Keys(), []mirror.Key{lbKey("team-0", 0)}) || !slices.Equal(got.Changed, []mirror.Key{lbKey("team-0", 0), lbKey("team-1", 1)}) {
		t.Errorf("keys %v, changed %v", s.Keys(), got.Changed)
	}
	for _, e := range r.Seen().Failures {
		if e.Error() != r.Seen().Failures[0].Error() || e.Hint == "" {
			t.Errorf("failures %q and %q", e, r.Seen().Failures[0])
		}
	}
}

func TestCloudGoneAndBack(t *testing.T) {
	c := startCloud(t, small)
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r.WaitFor(t, "Unreachable")
	if len(s.Keys()) != 2 {
		t.Errorf("keys %v", s.Keys())
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	r.WaitFor(t, upstreamtest.Complete)
	if got := r.Seen(); len(got.Changed) > 0 {
		t.Errorf("changed %v in an unchanged world", got.Changed)
	}
}

func TestForbidden(t *testing.T) {
	for name, change := range map[string]func(*openstacktest.State){
		"policy":           func(s *openstacktest.State) { s.Forbidden = true },
		"own project only": func(s *openstacktest.State) { s.OwnOnly = true },
	} {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, small)
			s, r := run(t, options(t, c))
			r.WaitFor(t, upstreamtest.Complete)
			c.Change(change)
			if err := fails(t, New(options(t, c))); err.Reason != upstream.ReasonForbidden || strings.Contains(err.Error(), "sees its own") != (name == "own project only") {
				t.Errorf("a fresh Source: %v", err)
			}
			r.WaitFor(t, "Forbidden")
			if got := r.Seen(); len(s.Keys()) != 2 || len(got.Changed) > 0 || !strings.Contains(got.Failures[0].Hint, "load-balancer_global_observer") {
				t.Errorf("keys %v, changed %v, failures %v", s.Keys(), got.Changed, got.Failures)
			}
			c.Change(func(s *openstacktest.State) { s.Forbidden, s.OwnOnly = false, false })
			r.WaitFor(t, upstreamtest.Complete)
		})
	}
	c := startCloud(t, small)
	c.Change(func(s *openstacktest.State) { s.OwnOnly = true })
	o := options(t, c)
	o.Selection.Include = []string{"team-0"}
	s := New(o)
	read(t, s)
	if got := s.Keys(); !slices.Equal(got, []mirror.Key{lbKey("team-0", 0)}) {
		t.Errorf("own project: keys %v", got)
	}
}

// Rights that are lost between two requests of a cycle.
func TestRightsEndDuringCycle(t *testing.T) {
	for _, kind := range []string{"auth/projects", "loadbalancers?project_id", "loadbalancers", "listeners", "pools"} {
		t.Run(kind, func(t *testing.T) {
			c := startCloud(t, small)
			s := New(options(t, c))
			before := text(read(t, s).services)
			c.Inject(on(kind, func(http.ResponseWriter, *http.Request) bool {
				c.Change(func(s *openstacktest.State) { s.OwnOnly = true })
				return false
			}))
			if found, err := s.cycle(t.Context(), s.inventory.Load()); err == nil && text(found.services) != before {
				t.Errorf("got %s", text(found.services))
			}
		})
	}
}

// A cloud that hangs is reported by the probe between two cycles.
func TestHanging(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.PollInterval, o.ProbeInterval, o.RequestTimeout = time.Hour, 50*time.Millisecond, 200*time.Millisecond
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	release := make(chan struct{})
	for name, fault := range map[string]openstacktest.Fault{
		"all": openstacktest.Unanswered(release), "Keystone alone": on("identity", openstacktest.Unanswered(release)), "Octavia alone": on("loadbalancers?limit=1", openstacktest.Unanswered(release)),
	} {
		start := time.Now()
		c.Inject(fault)
		r.WaitFor(t, "Timeout")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: reported after %v", name, took)
		}
		if len(s.Keys()) != 2 || r.Seen().Failures[0].Error() != r.Seen().Failures[len(r.Seen().Failures)-1].Error() {
			t.Errorf("%s: keys %v, failures %v", name, s.Keys(), r.Seen().Failures)
		}
		c.Inject(nil)
		r.Wait(t, "recovery", func(got upstreamtest.Reports) bool { return got.Last == upstreamtest.Complete })
	}
	close(release)
}

// A cloud that answers probes and fails cycles isn't complete.
func TestProbesDontHeal(t *testing.T) {
	c := startCloud(t, small)
	o := options(t, c)
	o.ProbeInterval = 5 * time.Millisecond
	_, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	c.Inject(on("listeners", says(http.StatusInternalServerError, "")))
	r.WaitFor(t, "ServerError")
	completed := r.Seen().Completed
	c.Requests()
	r.WaitFor(t, "ServerError")
	if r.Seen().Completed != completed {
		t.Error("complete while a listing fails")
	}
	if probes := c.Requests()["identity"]; probes > 0 {
		t.Errorf("%d probes of a cloud that is known to fail", probes)
	}
}

// A load balancer that Octavia has left in the middle of an operation is one among others.
func TestStuck(t *testing.T) {
	c := startCloud(t, small)
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	c.Change(func(s *openstacktest.State) {
		s.LoadBalancers[0].Provisioning, s.LoadBalancers[0].Pools[0].Members = "PENDING_UPDATE", nil
		s.LoadBalancers[1].Pools[0].Members = s.LoadBalancers[1].Pools[0].Members[:1]
		s.LoadBalancers[1].Touch(time.Now().Add(-10 * time.Second))
	})
	r.Wait(t, "the other's change", func(got upstreamtest.Reports) bool { return slices.Contains(got.Changed, lbKey("team-1", 1)) })
	stuck, _ := s.Service(lbKey("team-0", 0))
	if all, _ := endpoints(stuck); len(all) != 4 || slices.Contains(r.Seen().Changed, lbKey("team-0", 0)) {
		t.Errorf("it became %s", summary(stuck))
	}
}

// Run leaves nothing behind.
func TestNoLeak(t *testing.T) {
	c := startCloud(t, small)
	ours := func() int {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		n := 0
		for g := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(g, "persistConn") || strings.Contains(g, "clientConnReadLoop") || strings.Contains(g, "openstack.(*") && !strings.Contains(g, "TestNoLeak") {
				n++
			}
		}
		return n
	}
	o := options(t, c)
	o.ProbeInterval = time.Millisecond
	t.Run("run", func(t *testing.T) {
		_, r := run(t, o)
		r.Wait(t, "cycles", func(got upstreamtest.Reports) bool { return got.Completed > 3 })
	})
	for deadline := time.Now().Add(upstreamtest.Limit); ours() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines go on", ours())
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	c := startCloud(t, small)
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	stop := upstreamtest.Read(s)
	for i := range 5 {
		c.Change(func(s *openstacktest.State) {
			s.LoadBalancers[0].Pools[0].Members[0].Weight = i + 10
			s.LoadBalancers[0].Touch(time.Now().Add(time.Duration(i-100) * time.Second))
		})
		r.WaitFor(t, upstreamtest.Complete)
	}
	stop()
}
