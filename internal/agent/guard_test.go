package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestManyDeletionsAreHeldUntilConfirmed(t *testing.T) {
	all, keys := many(20)
	s := serve(t, all...)
	s.source.Remove(t, keys[:7]...)
	s.until(t, "7 are held", func(s agent.Snapshot) bool { return s.HeldDeletions == 7 })
	if confirmed, due := s.ConfirmDeletions(6); confirmed || due != 7 {
		t.Errorf("6 confirmed of 7: %v, %d due", confirmed, due)
	}
	s.restart(t, agent.Past{InForce: mirror.InForce{Deletions: true}})
	s.settle(t)
	s.until(t, "7 are held after a restart", func(s agent.Snapshot) bool { return s.HeldDeletions == 7 })
	if got := len(s.inCentral(t)); got != 20 {
		t.Errorf("%d Services are left", got)
	}
	if confirmed, due := s.ConfirmDeletions(7); !confirmed || due != 7 {
		t.Errorf("7 confirmed of 7: %v, %d due", confirmed, due)
	}
	s.until(t, "7 are gone", func(s agent.Snapshot) bool { return s.Services == 13 && s.HeldDeletions == 0 })
}

func TestExpiryKeepsAHold(t *testing.T) {
	all, keys := many(20)
	s := newServed(t)
	s.config.StaleAfter = time.Minute
	s.source.Put(all...)
	s.start(t)
	s.settle(t)
	s.source.Remove(t, keys[:7]...)
	s.until(t, "7 are held", func(s agent.Snapshot) bool { return s.HeldDeletions == 7 })
	s.source.Set(t, all[:2]...)
	s.until(t, "5 are held", func(s agent.Snapshot) bool { return s.HeldDeletions == 5 })
	s.source.Fail(t, down())
	s.later(t, "it expires", func(s agent.Snapshot) bool { return s.Expired })
	s.until(t, "no endpoint is ready", func(s agent.Snapshot) bool { return s.Ready == 0 && s.HeldDeletions == 5 })
	s.source.Complete(t)
	s.ready(t, keys[19], 1)
	s.until(t, "5 are held on", func(s agent.Snapshot) bool { return s.Services == 20 && s.HeldDeletions == 5 && s.Ready == 15 })
}

func TestANamespaceThatEndsLeavesNoHold(t *testing.T) {
	all, keys := many(20)
	s := serve(t, all...)
	s.source.Remove(t, keys[:7]...)
	s.until(t, "7 are held", func(s agent.Snapshot) bool { return s.HeldDeletions == 7 })
	s.namespaces.Set("team-a", false)
	s.source.Set(t, all[:7]...)
	for _, k := range keys {
		s.cluster.Remove("services", "team-a", "us-east-"+k.Name)
		s.cluster.Remove("endpointslices", "team-a", "us-east-"+k.Name+"-1")
	}
	s.until(t, "nothing is held and all wait", func(s agent.Snapshot) bool { return s.HeldDeletions == 0 && s.Services == 0 && s.Waiting == 20 })
}

func TestManyServicesLosingEndpointsAreTold(t *testing.T) {
	all, keys := many(20)
	s := serve(t, all...)
	var empty []*mirror.Service
	for _, k := range keys[:7] {
		empty = append(empty, service(k, 0))
	}
	s.source.Set(t, empty...)
	s.until(t, "the losses are told", func(s agent.Snapshot) bool { return s.LossesRaised && s.Lost == 7 && s.HeldLosses == 0 })
	if n, _ := s.series(t, "gimbal_upstream_endpoints_lost_at_once"); n != 1 {
		t.Errorf("the series is %v, want 1", n)
	}
	if confirmed, _ := s.ConfirmLosses(7); confirmed {
		t.Error("losses are confirmed that aren't held")
	}
	s.restart(t, agent.Past{InForce: mirror.InForce{LossesRaised: true}})
	s.settle(t)
	s.until(t, "they are told after a restart", func(s agent.Snapshot) bool { return s.LossesRaised && s.Lost == 7 })
	s.source.Set(t, all[:7]...)
	s.until(t, "it is over", func(s agent.Snapshot) bool { return !s.LossesRaised && s.Lost == 0 })
}

func TestManyServicesLosingEndpointsAreHeld(t *testing.T) {
	all, keys := many(20)
	s := newServed(t)
	s.config.HoldLosses = true
	s.source.Put(all...)
	s.start(t)
	s.settle(t)
	var empty []*mirror.Service
	for _, k := range keys[:7] {
		empty = append(empty, service(k, 0))
	}
	s.source.Set(t, empty...)
	s.until(t, "the losses are held", func(s agent.Snapshot) bool { return s.LossesRaised && s.HeldLosses == 7 && s.Ready == 20 })
	if confirmed, due := s.ConfirmLosses(6); confirmed || due != 7 {
		t.Errorf("6 confirmed of 7: %v, %d due", confirmed, due)
	}
	if confirmed, due := s.ConfirmLosses(7); !confirmed || due != 7 {
		t.Errorf("7 confirmed of 7: %v, %d due", confirmed, due)
	}
	s.until(t, "the losses have happened", func(s agent.Snapshot) bool { return s.HeldLosses == 0 && s.Ready == 13 })
}

func TestOneDeletionCostsTheGuardAConstantNumberOfLookUps(t *testing.T) {
	all, keys := many(1000)
	s := newServed(t)
	s.config.Guard.MaxPercent = 100
	s.source.Put(all...)
	s.seed(t, all...)
	s.start(t)
	s.settle(t)
	before := s.source.Asked()
	for _, k := range keys[:100] {
		s.source.Remove(t, k)
	}
	s.until(t, "100 are gone", func(s agent.Snapshot) bool { return s.Services == 900 })
	if asked := s.source.Asked() - before; asked > 100*20 {
		t.Errorf("100 deletions among 1,000 Services took %d look-ups, want at most 20 each", asked)
	}
}

// As many as may go at once do go, though the view of the central cluster is ahead of the guard.
func TestDeletionsUpToTheLimitAreNotHeldWhileTheyHappen(t *testing.T) {
	all, keys := many(100)
	s := newServed(t)
	s.config.Workers = 16
	s.source.Put(all...)
	s.start(t)
	s.settle(t)
	s.source.Remove(t, keys[:30]...)
	s.until(t, "30 of 100 are gone", func(s agent.Snapshot) bool { return s.Services == 70 || s.HeldDeletions > 0 })
	if held := s.Snapshot().HeldDeletions; held > 0 {
		t.Errorf("%d deletions are held", held)
	}
}

// What is left of a Service, since a policy refuses to have it deleted, is no deletion that is due.
func TestDeletionsThatHappenedInPartAreNotHeld(t *testing.T) {
	all, keys := many(20)
	s := serve(t, all...)
	s.cluster.Inject(refusing(func(r centraltest.Request) bool { return r.Verb == "delete" && r.Resource == "endpointslices" }))
	s.source.Remove(t, keys[:6]...)
	s.until(t, "6 Services are gone and their slices aren't", func(s agent.Snapshot) bool { return s.Services == 14 && s.Rejected.Services == 6 })
	s.source.Set(t, service(keys[10], 2))
	s.ready(t, keys[10], 2)
	if got := s.Snapshot(); got.HeldDeletions > 0 {
		t.Errorf("%d deletions are held", got.HeldDeletions)
	}
}

// A policy takes away what Gimbal knows its Services by.
func TestAnObjectThatAPolicyDisownsIsTold(t *testing.T) {
	s := newServed(t)
	s.cluster.Mutate(func(resource string, o *unstructured.Unstructured) {
		if resource == "services" {
			labels := o.GetLabels()
			delete(labels, mirror.LabelBackend)
			o.SetLabels(labels)
		}
	})
	s.source.Put(service(key("web"), 1))
	s.start(t)
	s.settle(t)
	s.until(t, "it is told", func(s agent.Snapshot) bool {
		return s.Rejected.Services == 1 && strings.Contains(s.Rejected.Message, "admission policy")
	})
}

func TestAServiceWhoseSourceAnnotationIsRemovedIsTold(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 1))
	services := s.config.Client.CoreV1().Services("team-a")
	if _, err := services.Patch(t.Context(), "us-east-web", types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, mirror.AnnotationSource), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.until(t, "the name is taken", func(s agent.Snapshot) bool {
		return s.ByReasons[mirror.ReasonNameTaken] == 1 && s.Rejected.Services == 1
	})
	s.later(t, "it is told", func(agent.Snapshot) bool { return s.hasTold(mirror.ReasonNameTaken) })
}

func TestSyncedIsFalseWhileOneNamespaceRefuses(t *testing.T) {
	s := newServed(t)
	s.addNamespace(t, "team-b")
	other := mirror.Key{Namespace: "team-b", Name: "web"}
	s.source.Put(service(key("web"), 1), service(other, 1))
	s.cluster.Inject(refusing(func(r centraltest.Request) bool { return r.Namespace == "team-b" && changes(r) }))
	s.start(t)
	s.settle(t)
	for range 3 {
		s.source.Set(t, service(key("web"), 2))
		s.ready(t, key("web"), 2)
		s.source.Set(t, service(key("web"), 1))
		s.ready(t, key("web"), 1)
		if got := s.Snapshot(); got.Rejected.Services != 1 || got.Failing.Services != 0 {
			t.Errorf("rejected %+v, failing %+v", got.Rejected, got.Failing)
		}
	}
	s.cluster.Inject(nil)
	s.Resync()
	s.ready(t, other, 1)
	s.until(t, "nothing is rejected", func(s agent.Snapshot) bool { return s.Rejected.Services == 0 && s.Refused == 0 })
}

func TestFailuresAreNamed(t *testing.T) {
	all, keys := many(5)
	s := newServed(t)
	s.source.Put(all...)
	s.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
		if changes(r) {
			return apierrors.NewInternalError(errors.New("etcd has no leader"))
		}
		return nil
	})
	s.start(t)
	s.settle(t)
	got := s.Snapshot().Failing
	if got.Services != 5 || got.Message == "" || !s.Snapshot().Started {
		t.Errorf("failing %+v", got)
	}
	s.cluster.Inject(nil)
	for _, k := range keys {
		s.ready(t, k, 1)
	}
	s.until(t, "nothing fails", func(s agent.Snapshot) bool { return s.Failing.Services == 0 })
}

func TestPropagationIsMeasuredAcrossRetries(t *testing.T) {
	web := key("web")
	s := serve(t, service(web, 1))
	s.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
		if changes(r) {
			return apierrors.NewInternalError(errors.New("etcd has no leader"))
		}
		return nil
	})
	s.source.Set(t, service(web, 2))
	s.until(t, "the write fails", func(s agent.Snapshot) bool { return s.Failing.Services == 1 })
	s.clock.Step(7 * time.Second)
	s.cluster.Inject(nil)
	s.ready(t, web, 2)
	s.until(t, "7 s are measured", func(agent.Snapshot) bool {
		sum, _ := s.series(t, "gimbal_upstream_propagation_seconds")
		return sum >= 7
	})
}

func TestARestartWritesNothingWhereAPolicyMutates(t *testing.T) {
	s := newServed(t)
	s.cluster.Mutate(func(_ string, o *unstructured.Unstructured) {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["policy.example.com/seen"] = "yes"
		o.SetLabels(labels)
	})
	s.source.Put(service(key("web"), 1), service(key("api"), 2))
	s.start(t)
	s.settle(t)
	s.cluster.Forget()
	s.Resync()
	s.restart(t, agent.Past{})
	s.settle(t)
	s.Resync()
	s.source.Set(t, service(key("new"), 1))
	s.ready(t, key("new"), 1)
	for _, w := range s.cluster.Writes() {
		if w.Name != "" && w.Name != "us-east-new" && w.Name != "us-east-new-1" {
			t.Errorf("written again: %+v", w)
		}
	}
}

// hasTold reports whether a refusal of that reason has been told.
func (s *served) hasTold(reason mirror.Reason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(slices.Concat(s.told...), func(r agent.Refused) bool { return r.Reason == reason })
}

func TestRefusalsAreTold(t *testing.T) {
	s := newServed(t)
	odd := func(name string) *mirror.Service {
		o := service(key(name), 1)
		o.Slices[0].Endpoints[0].Addresses = []string{"127.0.0.1"}
		return o
	}
	s.source.Put(odd("web"), odd("api"))
	s.start(t)
	s.settle(t)
	s.until(t, "the first pass's are told together", func(agent.Snapshot) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.told) == 1 && len(s.told[0]) == 2 && s.told[0][0].Key == key("api") && s.told[0][0].Service != ""
	})
	s.source.Set(t, odd("later"))
	s.until(t, "a third is refused", func(s agent.Snapshot) bool { return s.Refused == 3 })
	s.source.Set(t, odd("brief"))
	s.until(t, "a fourth is refused", func(s agent.Snapshot) bool { return s.Refused == 4 })
	s.source.Set(t, service(key("brief"), 1))
	s.until(t, "no longer", func(s agent.Snapshot) bool { return s.Refused == 3 })
	s.later(t, "the third is told, when it has stood", func(agent.Snapshot) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.told) == 2 && len(s.told[1]) == 1 && s.told[1][0].Key == key("later")
	})
}

func TestASnapshotListsTheFirstRefusals(t *testing.T) {
	all, _ := many(agent.MaxRefusals + 5)
	for _, s := range all {
		s.Slices[0].Endpoints[0].Addresses = []string{"127.0.0.1"}
	}
	s := serve(t, all...)
	if got := s.Snapshot(); got.Refused != len(all) || len(got.Refusals) != agent.MaxRefusals || got.Refusals[0].Key != key("web-0000") {
		t.Errorf("%d refused, %d listed", got.Refused, len(got.Refusals))
	}
}
