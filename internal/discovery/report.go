package discovery

import (
	"context"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// Reasons of events on an UpstreamCluster.
const (
	reasonDeletionsConfirmed  = "DeletionsConfirmed"  // held deletions go ahead
	reasonLossesConfirmed     = "LossesConfirmed"     // held losses of endpoints go ahead
	reasonIdentityConfirmed   = "IdentityConfirmed"   // the cluster that answers is meant
	reasonConfirmationUnused  = "ConfirmationUnused"  // more is held than was confirmed, or nothing; or another cluster answers
	reasonConfirmationInvalid = "ConfirmationInvalid" // the annotation isn't a number
	reasonEndpointsBack       = "EndpointsBack"       // Services that had lost their endpoints have some again
)

// refusedEvents returns a function that tells a team, by an event on the central
// Service's name, what of its upstream Service isn't mirrored. Where the central cluster
// has no such namespace, the event is the UpstreamCluster's.
func (c *controller) refusedEvents(uc *v1alpha1.UpstreamCluster) func([]agent.Refused) {
	upstream := uc.Name // the object itself is written to later on
	self := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "UpstreamCluster", Namespace: uc.Namespace, Name: uc.Name, UID: uc.UID}
	var mu sync.Mutex
	old := uc.Status.DeepCopy()
	return func(refusals []agent.Refused) {
		mu.Lock()
		if old != nil {
			refusals, old = news(refusals, old), nil
		}
		mu.Unlock()
		for _, r := range refusals {
			on := &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: r.Namespace, Name: mirror.ServiceName(upstream, r.Key), UID: r.Service}
			if !c.namespaces.Has(r.Namespace) {
				on = self
			}
			c.recorder.Eventf(on, nil, corev1.EventTypeWarning, string(r.Reason), "Mirror", "%s", clip("upstream "+upstream+": "+r.Message))
		}
	}
}

// news returns those of all refusals that an earlier agent hasn't told yet. Where the
// status had to leave some out, and there are as many as before, they count as the same,
// so that a restart doesn't tell them again.
func news(all []agent.Refused, old *v1alpha1.UpstreamClusterStatus) []agent.Refused {
	if int(old.Refused) > len(old.Refusals) && int(old.Refused) == len(all) {
		return nil
	}
	return slices.DeleteFunc(all, func(r agent.Refused) bool {
		return slices.Contains(old.Refusals, v1alpha1.Refusal{
			Namespace: r.Namespace, Service: r.Name, Reason: string(r.Reason), Message: r.Message,
		})
	})
}

// confirm carries out an operator's confirmations and takes their annotations away.
func (c *controller) confirm(ctx context.Context, a *agent.Agent, uc *v1alpha1.UpstreamCluster) error {
	before, given := uc.DeepCopy(), map[string]string{}
	for _, key := range []string{v1alpha1.ConfirmDeletionsAnnotation, v1alpha1.ConfirmEndpointsAnnotation, v1alpha1.ConfirmIdentityAnnotation} {
		if value, ok := uc.Annotations[key]; ok {
			given[key] = value
			delete(uc.Annotations, key)
		}
	}
	if len(given) == 0 {
		return nil
	}
	if err := c.client.Patch(ctx, uc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	if value, ok := given[v1alpha1.ConfirmIdentityAnnotation]; ok {
		c.confirmIdentity(a, uc, value)
	}
	if value, ok := given[v1alpha1.ConfirmDeletionsAnnotation]; ok {
		c.confirmHeld(uc, v1alpha1.ConfirmDeletionsAnnotation, value, "deletions", reasonDeletionsConfirmed, a.ConfirmDeletions, func() int { return a.Snapshot().HeldDeletions })
	}
	if value, ok := given[v1alpha1.ConfirmEndpointsAnnotation]; ok {
		c.confirmHeld(uc, v1alpha1.ConfirmEndpointsAnnotation, value, "losses of endpoints", reasonLossesConfirmed, a.ConfirmLosses, func() int { return a.Snapshot().HeldLosses })
	}
	return nil
}

// confirmHeld lets what is held happen, if the annotation's value is at least its number.
func (c *controller) confirmHeld(uc *v1alpha1.UpstreamCluster, key, value, what, reason string, confirm func(int) (bool, int), held func() int) {
	n, err := strconv.Atoi(value)
	if err != nil {
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, reasonConfirmationInvalid, "Confirm",
			"%s must be the number of held %s, not %.40q", key, what, value)
		return
	}
	if confirmed, due := confirm(n); confirmed {
		c.recorder.Eventf(uc, nil, corev1.EventTypeNormal, reason, "Confirm", "%d held %s go ahead", due, what)
	} else {
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, reasonConfirmationUnused, "Confirm",
			"%d %s were confirmed and %d are held: nothing has changed", n, what, held())
	}
}

func (c *controller) confirmIdentity(a *agent.Agent, uc *v1alpha1.UpstreamCluster, identity string) {
	if a.ConfirmIdentity(identity) {
		uc.Status.Identity = identity
		c.recorder.Eventf(uc, nil, corev1.EventTypeNormal, reasonIdentityConfirmed, "Confirm", "the central objects are of the cluster %s from now on", identity)
		return
	}
	c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, reasonConfirmationUnused, "Confirm",
		"the cluster %.128q was confirmed, and %q answers: nothing has changed", identity, a.Snapshot().Answers)
}

// announce records events of what an operator should look at and the status didn't say before.
func (c *controller) announce(uc *v1alpha1.UpstreamCluster, before *v1alpha1.UpstreamClusterStatus) {
	c.announceLosses(uc, raised(before))
	if now := otherCluster(&uc.Status); now != nil && otherCluster(before) == nil {
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, now.Reason, "Mirror", "%s", clip(now.Message))
	}
}

// otherCluster returns the condition that says that another cluster answers, or nil.
func otherCluster(status *v1alpha1.UpstreamClusterStatus) *metav1.Condition {
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionSynced); c != nil && c.Reason == reasonOtherCluster {
		return c
	}
	return nil
}

// announceLosses records an event if many Services have lost their endpoints, or have them
// back. wasRaised is what the status said before.
func (c *controller) announceLosses(uc *v1alpha1.UpstreamCluster, wasRaised bool) {
	now := meta.FindStatusCondition(uc.Status.Conditions, v1alpha1.ConditionEndpointsLost)
	switch {
	case now == nil || wasRaised == raised(&uc.Status):
	case wasRaised:
		c.recorder.Eventf(uc, nil, corev1.EventTypeNormal, reasonEndpointsBack, "Mirror", "%s", clip(now.Message))
	default:
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, now.Reason, "Mirror", "%s", clip(now.Message))
	}
}

// writeStatus writes what differs. Counts and messages alone are written only every
// statusPause.
func (c *controller) writeStatus(ctx context.Context, t *tenure, uc, before *v1alpha1.UpstreamCluster) (reconcile.Result, error) {
	again := reconcile.Result{RequeueAfter: statusHeartbeat}
	if equality.Semantic.DeepEqual(before.Status, uc.Status) {
		return again, nil
	}
	if since := c.clock.Since(t.statusWritten); onlyCountsDiffer(before.Status, uc.Status) && since < statusPause {
		return reconcile.Result{RequeueAfter: statusPause - since}, nil
	}
	before.ResourceVersion, before.Finalizers, before.Annotations = uc.ResourceVersion, uc.Finalizers, uc.Annotations
	if ctx.Err() != nil {
		return reconcile.Result{}, nil
	}
	// What has begun is finished though the replica is asked to end.
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusGrace)
	defer cancel()
	if err := c.client.Status().Patch(write, uc, client.MergeFrom(before)); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	t.statusWritten = c.clock.Now()
	return again, nil
}

// onlyCountsDiffer reports whether two statuses say the same but for messages, and counts
// that may wait.
func onlyCountsDiffer(a, b v1alpha1.UpstreamClusterStatus) bool {
	return a.HeldDeletions == b.HeldDeletions && a.HeldEndpoints == b.HeldEndpoints && a.Identity == b.Identity && a.Refused == b.Refused &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y metav1.Condition) bool {
			return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.ObservedGeneration == y.ObservedGeneration
		})
}
