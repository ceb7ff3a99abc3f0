package discovery

import (
	"context"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// Reasons of events on an UpstreamCluster.
const (
	reasonDeletionsConfirmed  = "DeletionsConfirmed"  // held deletions go ahead
	reasonConfirmationUnused  = "ConfirmationUnused"  // more deletions are held than were confirmed, or none
	reasonConfirmationInvalid = "ConfirmationInvalid" // the annotation isn't a number
)

// refusedEvents returns a function that tells a team, by an event on the central
// Service's name, what of its upstream Service isn't mirrored. Where the central cluster
// has no such namespace, the event is the UpstreamCluster's.
func (c *controller) refusedEvents(uc *v1alpha1.UpstreamCluster) func([]refused) {
	upstream := uc.Name // the object itself is written to later on
	self := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "UpstreamCluster", Namespace: uc.Namespace, Name: uc.Name, UID: uc.UID}
	var mu sync.Mutex
	old := uc.Status.DeepCopy()
	return func(refusals []refused) {
		mu.Lock()
		if old != nil {
			refusals, old = news(refusals, old), nil
		}
		mu.Unlock()
		for _, r := range refusals {
			on := &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: r.Namespace, Name: mirror.ServiceName(upstream, r.Key), UID: r.service}
			if !c.namespaces.Has(r.Namespace) {
				on = self
			}
			c.recorder.Eventf(on, nil, corev1.EventTypeWarning, string(r.Reason), "Mirror", "upstream %s: %s", upstream, clip(r.Message))
		}
	}
}

// news returns those of all refusals that an earlier agent hasn't told yet. Where the
// status had to leave some out, and there are as many as ever, they count as the same:
// a restart is no news.
func news(all []refused, old *v1alpha1.UpstreamClusterStatus) []refused {
	if int(old.Refused) > len(old.Refusals) && int(old.Refused) == len(all) {
		return nil
	}
	return slices.DeleteFunc(all, func(r refused) bool {
		return slices.Contains(old.Refusals, v1alpha1.Refusal{
			Namespace: r.Namespace, Service: r.Name, Reason: string(r.Reason), Message: r.Message,
		})
	})
}

// confirm carries out an operator's confirmation of held deletions and takes its annotation away.
func (c *controller) confirm(ctx context.Context, a *agent, uc *v1alpha1.UpstreamCluster) error {
	value, ok := uc.Annotations[v1alpha1.ConfirmDeletionsAnnotation]
	if !ok {
		return nil
	}
	before := uc.DeepCopy()
	delete(uc.Annotations, v1alpha1.ConfirmDeletionsAnnotation)
	if err := c.client.Patch(ctx, uc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, reasonConfirmationInvalid, "Confirm",
			"%s must be the number of held deletions, not %.40q", v1alpha1.ConfirmDeletionsAnnotation, value)
		return nil
	}
	confirmed, due := a.Confirm(n)
	if confirmed {
		c.recorder.Eventf(uc, nil, corev1.EventTypeNormal, reasonDeletionsConfirmed, "Confirm", "%d held deletions go ahead", due)
	} else {
		c.recorder.Eventf(uc, nil, corev1.EventTypeWarning, reasonConfirmationUnused, "Confirm",
			"%d deletions were confirmed and %d are held: nothing was deleted", n, a.guard.Held())
	}
	return nil
}

// writeStatus writes what differs. Counts and messages alone are written only every
// statusPause.
func (c *controller) writeStatus(ctx context.Context, r *running, uc, before *v1alpha1.UpstreamCluster) (reconcile.Result, error) {
	again := reconcile.Result{RequeueAfter: statusHeartbeat}
	if equality.Semantic.DeepEqual(before.Status, uc.Status) {
		return again, nil
	}
	if since := c.clock.Since(r.statusWrite); sameConditions(before.Status, uc.Status) && since < statusPause {
		return reconcile.Result{RequeueAfter: statusPause - since}, nil
	}
	before.ResourceVersion, before.Finalizers, before.Annotations = uc.ResourceVersion, uc.Finalizers, uc.Annotations
	if err := c.client.Status().Patch(ctx, uc, client.MergeFrom(before)); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.statusWrite = c.clock.Now()
	return again, nil
}

func sameConditions(a, b v1alpha1.UpstreamClusterStatus) bool {
	return a.HeldDeletions == b.HeldDeletions && a.Refused == b.Refused &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y metav1.Condition) bool {
			return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.ObservedGeneration == y.ObservedGeneration
		})
}
