package agent_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

func TestLosingContactChangesNothing(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.cluster.Forget()
	s.source.Fail(t, down())
	s.passes(48 * time.Hour)
	s.source.Fail(t, &upstream.Error{Reason: upstream.ReasonTimeout, Err: down()})
	got := s.Snapshot()
	if got.Complete || got.Failure == nil || got.Failure.Reason != upstream.ReasonTimeout || got.Expired || len(s.cluster.Writes()) > 0 {
		t.Errorf("snapshot %+v, writes %v", got, s.cluster.Writes())
	}
	if n, _ := s.series(t, "gimbal_upstream_failures_total"); n != 2 {
		t.Errorf("%v failures are counted, want 2", n)
	}
	s.source.Complete(t)
	if got := s.Snapshot(); !got.Complete || got.Failure != nil || !got.LastView.Equal(s.clock.Now()) {
		t.Errorf("snapshot %+v", got)
	}
}

func TestARestartDoesNotExpireAnUpstreamInContact(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.cluster.Forget()
	s.config.StaleAfter = time.Minute
	s.restart(t, agent.Past{LastView: s.clock.Now().Add(-5 * time.Minute)})
	s.passes(10 * time.Minute) // that is how long it is listed
	if got := s.Snapshot(); got.Expired || got.Started {
		t.Errorf("snapshot %+v while the upstream is listed", got)
	}
	s.settle(t)
	if writes := s.cluster.Writes(); len(writes) > 0 || s.Snapshot().Expired {
		t.Errorf("writes %v", writes)
	}
}

func TestAnUpstreamOutOfContactExpires(t *testing.T) {
	web := key("web")
	for name, tc := range map[string]struct {
		restarted bool
		past      func(now time.Time) agent.Past
	}{
		"while it is served": {past: func(time.Time) agent.Past { return agent.Past{} }},
		"since a restart":    {true, func(time.Time) agent.Past { return agent.Past{} }},
		"since before a restart": {true, func(now time.Time) agent.Past {
			return agent.Past{LastView: now.Add(-time.Hour), OutOfContact: now.Add(-time.Hour)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServed(t)
			s.config.StaleAfter = time.Minute
			s.source.Put(service(web, 2))
			s.start(t)
			s.settle(t)
			if tc.restarted {
				s.restart(t, tc.past(s.clock.Now()))
			}
			s.source.Fail(t, down())
			s.later(t, "it expires", func(s agent.Snapshot) bool { return s.Expired })
			s.ready(t, web, 0)
			s.source.Complete(t)
			s.ready(t, web, 2)
			s.until(t, "it isn't expired any more", func(s agent.Snapshot) bool { return !s.Expired && s.Complete })
		})
	}
}

// The time counts from the last complete view, not from the first failure: that is exact.
func TestExpiryCountsFromTheLastView(t *testing.T) {
	s := newServed(t)
	s.config.StaleAfter = time.Minute
	s.source.Put(service(key("web"), 1))
	s.start(t)
	s.settle(t)
	s.clock.Step(59 * time.Second)
	s.source.Fail(t, down())
	before := s.clock.Now()
	s.later(t, "it expires", func(s agent.Snapshot) bool { return s.Expired })
	if after := s.clock.Since(before); after > 50*time.Second {
		t.Errorf("it expired %v after the first failure", after)
	}
}

func TestAnotherClusterWritesNothingUntilConfirmed(t *testing.T) {
	web, api := key("web"), key("api")
	s := serve(t, service(web, 2))
	s.cluster.Forget()
	s.source.Replace(t, "beta", service(web, 5), service(api, 1))
	s.source.Complete(t)
	s.source.Set(t, service(web, 4))
	s.Resync()
	s.until(t, "another cluster answers", agent.Snapshot.OtherCluster)
	if got := s.Snapshot(); got.Identity != "alpha" || got.Answers != "beta" || got.HeldDeletions > 0 {
		t.Errorf("snapshot %+v", got)
	}
	if n, _ := s.series(t, "gimbal_upstream_other_cluster"); n != 1 {
		t.Errorf("the series is %v, want 1", n)
	}
	if s.ConfirmIdentity("gamma") {
		t.Error("a cluster is confirmed that doesn't answer")
	}
	if writes := s.cluster.Writes(); len(writes) > 0 {
		t.Fatalf("writes %v", writes)
	}
	if !s.ConfirmIdentity("beta") {
		t.Error("the cluster that answers can't be confirmed")
	}
	s.ready(t, web, 4)
	s.ready(t, api, 1)
}

// The Secret is put right: nothing has happened.
func TestTheSameClusterAgainIsServedOn(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.restart(t, agent.Past{Identity: "alpha"})
	s.cluster.Forget()
	s.source.Replace(t, "beta", service(web, 5))
	s.source.Complete(t)
	s.until(t, "another cluster answers", agent.Snapshot.OtherCluster)
	s.source.Replace(t, "alpha", service(web, 3))
	s.source.Complete(t)
	s.ready(t, web, 3)
	for _, w := range s.cluster.Writes() {
		if w.Verb == "delete" {
			t.Errorf("a deletion: %+v", w)
		}
	}
}

func TestAnotherClusterAfterARestart(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.cluster.Forget()
	s.stop()
	s.source.Replace(t, "beta", service(web, 1))
	s.restart(t, agent.Past{Identity: "alpha"})
	s.settle(t)
	if got := s.Snapshot(); !got.OtherCluster() || len(s.cluster.Writes()) > 0 {
		t.Errorf("snapshot %+v, writes %v", got, s.cluster.Writes())
	}
	if !s.ConfirmIdentity("beta") {
		t.Error("the cluster that answers can't be confirmed")
	}
	s.ready(t, web, 1)
}

// An upstream that can't say which it is, is taken as the one it was.
func TestAClusterWithoutIdentity(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.source.Replace(t, "", service(web, 1))
	s.source.Complete(t)
	s.ready(t, web, 1)
	if got := s.Snapshot(); got.OtherCluster() || got.Identity != "alpha" {
		t.Errorf("snapshot %+v", got)
	}
}

// Someone deletes default/kubernetes upstream, and the API server makes it again.
func TestAnIdentityThatIsMadeAnewIsTheSameClusters(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.source.Identify(t, "")
	s.source.Identify(t, "anew")
	s.source.Set(t, service(web, 3))
	s.ready(t, web, 3)
	if got := s.Snapshot(); got.OtherCluster() || got.Identity != "anew" {
		t.Errorf("snapshot %+v", got)
	}
}

func TestAnotherClustersIdentityThatIsMadeAnewIsNotConfirmed(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 2))
	s.source.Replace(t, "beta", service(web, 2))
	s.source.Complete(t)
	s.cluster.Forget()
	s.source.Identify(t, "")
	s.source.Set(t, service(web, 5))
	s.Resync()
	s.source.Identify(t, "anew")
	s.until(t, "it stays another", func(s agent.Snapshot) bool { return s.Answers == "anew" })
	if writes := s.cluster.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
	if got := s.Snapshot(); !got.OtherCluster() || got.Identity != "alpha" {
		t.Errorf("snapshot %+v", got)
	}
}

// The right cluster is back, without a Service that it lost while the other one answered.
func TestTheRightClusterIsBack(t *testing.T) {
	web, gone := key("web"), key("gone")
	s := serve(t, service(web, 2), service(gone, 2))
	s.source.Replace(t, "beta", service(web, 2))
	s.source.Replace(t, "alpha", service(web, 2))
	s.until(t, "the Service that is gone is deleted", func(s agent.Snapshot) bool { return s.Services == 1 })
}

func TestAnotherClusterIsToldAtOnce(t *testing.T) {
	var told atomic.Int64
	s := newServed(t)
	s.config.StatusChanged = func() { told.Add(1) }
	s.source.Put(service(key("web"), 2))
	s.start(t)
	s.settle(t)
	before := told.Load()
	s.source.Replace(t, "beta", service(key("web"), 2))
	if told.Load() == before {
		t.Error("the status isn't written anew")
	}
}

func TestGaugesEndWithTheirUpstream(t *testing.T) {
	s := serve(t, service(key("web"), 2))
	s.source.Polled(t, upstream.Cycle{Duration: time.Second, Requests: 7})
	for _, name := range []string{"gimbal_upstream_services", "gimbal_upstream_writes_total", "gimbal_upstream_cycle_requests", "gimbal_upstream_cycle_duration_seconds"} {
		if n, ok := s.series(t, name); !ok || n == 0 {
			t.Errorf("%s is %v (there: %v)", name, n, ok)
		}
	}
	s.source.Fail(t, down())
	s.stop()
	families, err := s.registry.Gather()
	if err != nil || len(families) > 0 {
		t.Errorf("left after the end: %v, %v", families, err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	s := newServed(t)
	if _, err := agent.NewMetrics(s.registry); err == nil {
		t.Error("registered twice")
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	s := newServed(t)
	s.start(t)
	s.settle(t)
	if got := s.Snapshot(); got.Services != 0 || !got.Started || got.Failing != (agent.Failing{}) || got.Refusals != nil {
		t.Errorf("snapshot %+v", got)
	}
	s.source.Set(t, service(mirror.Key{Namespace: "team-a", Name: "web"}, 1))
	s.ready(t, key("web"), 1)
}
