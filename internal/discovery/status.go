package discovery

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// statusRefusals bounds the refusals that the status lists.
	statusRefusals = 20
	// statusHeartbeat is how old lastCompleteSync may grow while the view is complete.
	statusHeartbeat = 5 * time.Minute
	// statusPause is the least time between two writes of which only the counts differ.
	statusPause = 10 * time.Second
)

// Reasons of the conditions Reachable and Synced besides upstream.Reason.
const (
	reasonComplete           = "Complete"           // the view of the upstream is complete and kept up to date
	reasonConnecting         = "Connecting"         // the upstream is being listed
	reasonNotAccepted        = "NotAccepted"        // the upstream isn't served; see the condition Accepted
	reasonPaused             = "Paused"             // spec.paused is set
	reasonPending            = "Pending"            // waiting for a complete view
	reasonSyncing            = "Syncing"            // every Service is being looked at for the first time
	reasonStalled            = "Stalled"            // the upstream can't be read; central objects are as it was last seen
	reasonStale              = "Stale"              // out of contact for longer than spec.staleAfter: endpoints are not ready
	reasonDeletionsHeld      = "DeletionsHeld"      // more Services are gone than the deletion guard allows
	reasonWriteFailed        = "WriteFailed"        // writing to the central cluster fails and is tried again
	reasonSyncedWithRefusals = "SyncedWithRefusals" // in sync, but for what status.refusals lists
	reasonSynced             = "Synced"             // central objects are as the upstream has them
)

// snapshot is an agent's state at one moment.
type snapshot struct {
	// Settled says that every key has been looked at since the agent started: refusals
	// and the like are known again.
	Started, Settled, Complete, Expired bool

	LastView              time.Time
	Failure               *upstream.Error
	WriteErr              error
	Services, Endpoints   int
	Waiting, Held, Queued int
	Refused               int
	Refusals              []mirror.Refusal
}

// Snapshot returns the agent's state and sets the gauges that count objects.
func (a *agent) Snapshot() snapshot {
	services, endpoints := a.central.Counts()
	refused, first := a.refusals.First(statusRefusals)
	held := a.guard.Held()
	a.mu.Lock()
	s := snapshot{
		Started: a.started, Settled: a.settled, Complete: a.complete, Expired: a.expired, LastView: a.lastView,
		Failure: a.failure, WriteErr: a.writeErr, Waiting: len(a.waiting),
		Services: services, Endpoints: endpoints, Held: held, Queued: a.queue.Len(),
		Refused: refused, Refusals: first,
	}
	a.mu.Unlock()
	m := a.Metrics
	m.services.WithLabelValues(a.Name, "mirrored").Set(float64(services))
	m.services.WithLabelValues(a.Name, "waiting").Set(float64(s.Waiting))
	m.endpoints.WithLabelValues(a.Name).Set(float64(endpoints))
	m.held.WithLabelValues(a.Name).Set(float64(held))
	for reason, n := range a.refusals.Counts() {
		m.refusals.WithLabelValues(a.Name, string(reason)).Set(float64(n))
	}
	return s
}

// reportAgent brings the status to what the agent's snapshot says.
func reportAgent(uc *v1alpha1.UpstreamCluster, s snapshot) {
	status, generation := &uc.Status, uc.Generation
	if stands(status, generation, s) {
		return
	}
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionTrue, reasonAccepted, "the spec and its Secret can be used")
	wasReachable := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReachable)
	reportReachable(status, generation, s)
	reportSynced(uc, s)
	if s.Settled {
		status.Services, status.Endpoints = int32(s.Services), int32(s.Endpoints)
		status.Waiting, status.Refused, status.HeldDeletions = int32(s.Waiting), int32(s.Refused), int32(s.Held)
		status.Refusals = nil
		for _, r := range s.Refusals {
			status.Refusals = append(status.Refusals, v1alpha1.Refusal{
				Namespace: r.Namespace, Service: r.Name, Reason: string(r.Reason), Message: r.Message,
			})
		}
	}
	if old := status.LastCompleteSync; !s.LastView.IsZero() &&
		(old == nil || !s.Complete || !wasReachable || s.LastView.Sub(old.Time) >= statusHeartbeat) {
		status.LastCompleteSync = &metav1.Time{Time: s.LastView.Truncate(time.Second)}
	}
	summarise(status)
}

// stands says whether the status that an earlier agent reported of this spec is still
// the last word: a restart alone is no news. It is so until the new agent has looked at
// everything, or knows better.
func stands(status *v1alpha1.UpstreamClusterStatus, generation int64, s snapshot) bool {
	if s.Settled || s.Expired || s.Failure != nil || s.WriteErr != nil ||
		!meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionAccepted) {
		return false
	}
	reachable := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReachable)
	if reachable == nil || reachable.ObservedGeneration != generation {
		return false
	}
	return reachable.Status == metav1.ConditionTrue || reachable.Status == metav1.ConditionFalse && !s.Complete
}

func reportReachable(status *v1alpha1.UpstreamClusterStatus, generation int64, s snapshot) {
	switch {
	case s.Complete:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionTrue, reasonComplete, "the view of the upstream is complete and kept up to date")
	case s.Failure != nil:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionFalse, string(s.Failure.Reason), clip(s.Failure.Error()))
	default:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionUnknown, reasonConnecting, "the upstream is being listed")
	}
}

func reportSynced(uc *v1alpha1.UpstreamCluster, s snapshot) {
	synced := func(value metav1.ConditionStatus, reason, message string) {
		set(&uc.Status, uc.Generation, v1alpha1.ConditionSynced, value, reason, clip(message))
	}
	switch {
	case s.Expired:
		synced(metav1.ConditionFalse, reasonStale, "the upstream has been out of contact for longer than spec.staleAfter: its endpoints are marked not ready until it is back")
	case s.Held > 0:
		synced(metav1.ConditionFalse, reasonDeletionsHeld, fmt.Sprintf(
			"%d of %d Services are gone upstream, which is more than the deletion guard allows; if that is meant: kubectl annotate uc -n %s %s %s=%d",
			s.Held, s.Services, uc.Namespace, uc.Name, v1alpha1.ConfirmDeletionsAnnotation, s.Held))
	case s.WriteErr != nil:
		synced(metav1.ConditionFalse, reasonWriteFailed, "writing to the central cluster fails and is tried again: "+s.WriteErr.Error())
	case !s.Settled && s.Complete:
		synced(metav1.ConditionUnknown, reasonSyncing, "the upstream's Services are being compared with the central objects for the first time")
	case !s.Settled:
		synced(metav1.ConditionUnknown, reasonPending, "waiting for a complete view of the upstream; central objects stay as they are")
	case !s.Complete:
		synced(metav1.ConditionUnknown, reasonStalled, "the upstream can't be read; central objects are as it was last seen")
	case s.Refused > 0:
		synced(metav1.ConditionTrue, reasonSyncedWithRefusals, "central objects are as the upstream has them, but for the refusals listed in status.refusals")
	default:
		synced(metav1.ConditionTrue, reasonSynced, "central objects are as the upstream has them")
	}
}

// reportRejected brings status to what a rejection says; counts stay as they were, since the objects do.
func reportRejected(status *v1alpha1.UpstreamClusterStatus, generation int64, r *rejection) {
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionFalse, r.Reason, clip(r.Message))
	idle(status, generation, reasonNotAccepted, "the upstream isn't served; central objects stay as they are")
}

// reportPaused brings status to what spec.paused asks for.
func reportPaused(status *v1alpha1.UpstreamClusterStatus, generation int64) {
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionTrue, reasonAccepted, "the spec can be used")
	idle(status, generation, reasonPaused, "spec.paused is set; central objects stay as they are")
}

func idle(status *v1alpha1.UpstreamClusterStatus, generation int64, reason, message string) {
	set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionUnknown, reason, message)
	set(status, generation, v1alpha1.ConditionSynced, metav1.ConditionUnknown, reason, message)
	summarise(status)
}

func set(status *v1alpha1.UpstreamClusterStatus, generation int64, kind string, value metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}

// summarise sets status.reason to the first condition's that isn't True, or to Synced's.
func summarise(status *v1alpha1.UpstreamClusterStatus) {
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionReachable, v1alpha1.ConditionSynced} {
		c := meta.FindStatusCondition(status.Conditions, kind)
		if c == nil {
			continue
		}
		if status.Reason = c.Reason; c.Status != metav1.ConditionTrue {
			return
		}
	}
}

// clip bounds a message to what a condition may hold.
func clip(s string) string {
	const most = 1024
	if len(s) > most {
		return s[:most]
	}
	return s
}
