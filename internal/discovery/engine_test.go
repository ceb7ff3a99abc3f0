package discovery_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func TestAnUpstreamsLife(t *testing.T) {
	e := newEngine(t, service("web", 2))
	stop := e.run(t)
	e.mirrored(t, 1)
	uc := e.status(t, "Synced")
	if uc.Status.Services != 1 || uc.Status.Endpoints != 2 || uc.Status.Identity != "alpha" || uc.Status.LastCompleteSync == nil {
		t.Errorf("status %+v", uc.Status)
	}
	e.edit(t, func(uc *v1alpha1.UpstreamCluster) { uc.Spec.Paused = true })
	e.status(t, "Paused")
	e.edit(t, func(uc *v1alpha1.UpstreamCluster) { uc.Spec.Paused = false })
	e.source(t, 2)
	e.status(t, "Synced")
	e.cluster.Remove("secrets", namespace, "us-east")
	e.status(t, "SecretNotFound")
	e.mirrored(t, 1)
	if err := e.client.Delete(t.Context(), e.get(t, "us-east")); err != nil {
		t.Fatal(err)
	}
	upstreamtest.Eventually(t, "it is gone", func() bool { return e.get(t, "us-east") == nil })
	e.mirrored(t, 0)
	stop()
}

func TestAnUpstreamThatIsRetained(t *testing.T) {
	e := newEngine(t, service("web", 2))
	e.run(t)
	e.status(t, "Synced")
	e.edit(t, func(uc *v1alpha1.UpstreamCluster) { uc.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
	if err := e.client.Delete(t.Context(), e.get(t, "us-east")); err != nil {
		t.Fatal(err)
	}
	upstreamtest.Eventually(t, "it is gone", func() bool { return e.get(t, "us-east") == nil })
	e.mirrored(t, 1)
}

func TestSyncedIsFalseWhileTheCentralClusterRefuses(t *testing.T) {
	e := newEngine(t, service("web", 1))
	e.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
		if r.Resource == "services" && r.Verb == "create" {
			return forbidden(r)
		}
		return nil
	})
	e.run(t)
	uc := e.status(t, "Rejected")
	if meta.IsStatusConditionTrue(uc.Status.Conditions, v1alpha1.ConditionSynced) || uc.Status.Refused != 1 {
		t.Errorf("status %+v", uc.Status)
	}
}

func TestConfirmations(t *testing.T) {
	all, keys := many(20, 1)
	e := newEngine(t, all...)
	e.run(t)
	e.status(t, "Synced")
	source := e.source(t, 1)
	source.Remove(t, keys[:7]...)
	e.status(t, "DeletionsHeld")
	confirm := func(key, value, event string) {
		t.Helper()
		e.edit(t, func(uc *v1alpha1.UpstreamCluster) { uc.Annotations = map[string]string{key: value} })
		e.event(t, event)
		if got := e.get(t, "us-east").Annotations; len(got) > 0 {
			t.Errorf("annotations %v are left", got)
		}
	}
	confirm(v1alpha1.ConfirmDeletionsAnnotation, "all", "ConfirmationInvalid")
	confirm(v1alpha1.ConfirmDeletionsAnnotation, "6", "ConfirmationUnused")
	confirm(v1alpha1.ConfirmDeletionsAnnotation, "7", "DeletionsConfirmed")
	e.mirrored(t, 13)
	source.Replace(t, "beta", all[7:]...)
	source.Complete(t)
	e.status(t, "OtherCluster")
	e.event(t, "OtherCluster")
	confirm(v1alpha1.ConfirmIdentityAnnotation, "beta", "IdentityConfirmed")
	e.status(t, "Synced")
	if got := e.get(t, "us-east").Status.Identity; got != "beta" {
		t.Errorf("identity %q", got)
	}
}

func TestLossesAreHeldUntilConfirmed(t *testing.T) {
	all, _ := many(20, 1)
	empty, _ := many(7, 0)
	e := newEngine(t, all...)
	e.edit(t, func(uc *v1alpha1.UpstreamCluster) { uc.Spec.DeletionGuard.Endpoints = v1alpha1.EndpointsHold })
	e.run(t)
	e.status(t, "Synced")
	e.source(t, 1).Set(t, empty...)
	e.status(t, "EndpointsHeld")
	e.event(t, "LostAtOnce")
	e.edit(t, func(uc *v1alpha1.UpstreamCluster) {
		uc.Annotations = map[string]string{v1alpha1.ConfirmEndpointsAnnotation: "7"}
	})
	e.event(t, "LossesConfirmed")
	e.status(t, "Synced")
}

// The ranges change after they were read for the agent, and before the agent is there.
func TestRangesThatChangeWhileAnAgentStarts(t *testing.T) {
	e := newEngine(t, service("web", 2))
	e.making = func() {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.2"}}
		e.cluster.Add(t, node)
	}
	e.run(t)
	e.status(t, "SyncedWithRefusals")
	upstreamtest.Eventually(t, "the node's address is refused", func() bool {
		uc := e.get(t, "us-east")
		return uc.Status.Endpoints == 1 && uc.Status.Refused == 1
	})
}

func TestARestartOfTheEngineWritesNothing(t *testing.T) {
	e := newEngine(t, service("web", 2))
	stop := e.run(t)
	e.status(t, "Synced")
	stop()
	e.cluster.Forget()
	e.run(t)
	source := e.source(t, 2)
	source.Set(t, service("api", 1))
	e.mirrored(t, 2)
	for _, w := range e.cluster.Writes() {
		if w.Verb != "create" {
			t.Errorf("a write: %+v", w)
		}
	}
}

func TestNamespacesSecretsAndOtherUpstreams(t *testing.T) {
	other := service("web", 1)
	other.Namespace = "team-b"
	e := newEngine(t, service("web", 1), other)
	e.run(t)
	e.mirrored(t, 1)
	e.status(t, "Synced")
	e.cluster.AddNamespaces(t, "team-b")
	e.mirrored(t, 2)
	e.addUpstream(t, "us-east-1")
	upstreamtest.Eventually(t, "the ambiguous one is rejected", func() bool { return e.get(t, "us-east-1").Status.Reason == "AmbiguousName" })
	e.cluster.Add(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "us-east"}, Data: map[string][]byte{"kubeconfig": []byte("y")}})
	e.source(t, 2)
	e.status(t, "Synced")
	e.cluster.Remove("namespaces", "", "team-b")
	e.cluster.Remove("upstreamclusters", namespace, "us-east-1")
}

// More agents are slow to end than there are reconcilers.
func TestStoppingAnAgentDoesNotOccupyTheReconciler(t *testing.T) {
	e := newEngine(t)
	release := make(chan struct{})
	e.begins = func(o upstream.Observer) { o.Complete(); <-release }
	names := []string{"us-east", "b", "c", "d", "e", "f"}
	for _, name := range names[1:] {
		e.addUpstream(t, name)
	}
	e.run(t)
	t.Cleanup(func() { close(release) })
	all := func(reason string) {
		t.Helper()
		for _, name := range names {
			upstreamtest.Eventually(t, name+" is "+reason, func() bool { return e.get(t, name).Status.Reason == reason })
		}
	}
	all("Synced")
	for _, name := range names {
		uc := e.get(t, name)
		before := uc.DeepCopy()
		uc.Spec.Paused = true
		if err := e.client.Patch(t.Context(), uc, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	all("Paused")
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	r := prometheus.NewRegistry()
	if err := discovery.Metrics(r); err != nil {
		t.Fatal(err)
	}
	if err := discovery.Metrics(r); err == nil {
		t.Error("registered twice")
	}
	e := newEngine(t)
	o := e.options()
	o.Registerer = r
	if err := discovery.Run(t.Context(), o); err == nil {
		t.Error("an engine runs without its metrics")
	}
}

func TestAnEngineWithoutACentralClusterEnds(t *testing.T) {
	e := newEngine(t)
	e.cluster.Inject(func(_ context.Context, r centraltest.Request) error { return forbidden(r) })
	if err := discovery.Run(t.Context(), e.options()); err == nil {
		t.Error("an engine that can't read the central cluster's ranges runs")
	}
}
