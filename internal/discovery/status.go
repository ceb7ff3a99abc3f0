package discovery

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	// statusHeartbeat is how old lastCompleteSync may grow while the view is complete.
	statusHeartbeat = 5 * time.Minute
	// statusPause is the least time between two writes of which only the counts differ.
	statusPause = 10 * time.Second
	// statusGrace is how long a write that has begun may take when the replica is asked to end.
	statusGrace = 2 * time.Second
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
	reasonOtherCluster       = "OtherCluster"       // another cluster answers than the central objects are of: nothing is written
	reasonDeletionsHeld      = "DeletionsHeld"      // more Services are gone than the deletion guard allows
	reasonEndpointsHeld      = "EndpointsHeld"      // more Services have lost their endpoints than the deletion guard allows
	reasonRejected           = "Rejected"           // the central cluster refuses objects
	reasonWriteFailed        = "WriteFailed"        // writing to the central cluster fails and is tried again
	reasonSyncedWithRefusals = "SyncedWithRefusals" // in sync, but for what status.refusals lists
	reasonSynced             = "Synced"             // central objects are as the upstream has them
)

// Reasons of the conditions Accepted and EndpointsLost besides accept's and upstream's.
const (
	reasonAccepted    = "Accepted"    // the spec and its Secret can be used
	reasonLostAtOnce  = "LostAtOnce"  // more Services have lost their last ready endpoint within ten minutes than the deletion guard allows
	reasonWithinLimit = "WithinLimit" // fewer have
)

// reportAgent brings the status to what the agent's snapshot says. The note is a clause about
// what the spec leaves out.
func reportAgent(uc *v1alpha1.UpstreamCluster, s agent.Snapshot, note string) {
	status, generation := &uc.Status, uc.Generation
	if stands(status, generation, s) {
		return
	}
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionTrue, reasonAccepted, "the spec and its Secret can be used"+note)
	wasReachable := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReachable)
	reportReachable(status, generation, s)
	reportSynced(uc, s)
	if s.Identity != "" {
		status.Identity = s.Identity
	}
	if s.Settled {
		reportLosses(uc, s)
		reportCounts(status, s)
	}
	if old := status.LastCompleteSync; !s.LastView.IsZero() &&
		(old == nil || !s.Complete || !wasReachable || s.LastView.Sub(old.Time) >= statusHeartbeat) {
		status.LastCompleteSync = &metav1.Time{Time: s.LastView.Truncate(time.Second)}
	}
	summarise(status)
}

func reportCounts(status *v1alpha1.UpstreamClusterStatus, s agent.Snapshot) {
	status.Services, status.Endpoints = int32(s.Services), int32(s.Endpoints)
	status.Waiting, status.Refused = int32(s.Waiting), int32(s.Refused)
	status.HeldDeletions, status.HeldEndpoints = int32(s.HeldDeletions), int32(s.HeldLosses)
	status.Refusals = nil
	for _, r := range s.Refusals {
		status.Refusals = append(status.Refusals, v1alpha1.Refusal{
			Namespace: r.Namespace, Service: r.Name, Reason: string(r.Reason), Message: r.Message,
		})
	}
}

// pastOf returns what an earlier agent left behind, as far as the status tells.
func pastOf(status *v1alpha1.UpstreamClusterStatus) agent.Past {
	past := agent.Past{
		InForce:    mirror.InForce{Deletions: status.HeldDeletions > 0, Losses: status.HeldEndpoints > 0, LossesRaised: raised(status)},
		NamesTaken: map[mirror.Key]bool{},
		Identity:   status.Identity,
	}
	for _, r := range status.Refusals {
		if r.Reason == string(mirror.ReasonNameTaken) {
			past.NamesTaken[mirror.Key{Namespace: r.Namespace, Name: r.Service}] = true
		}
	}
	if last := status.LastCompleteSync; last != nil {
		past.LastView = last.Time
		if meta.IsStatusConditionFalse(status.Conditions, v1alpha1.ConditionReachable) {
			past.OutOfContact = last.Time // exact from the moment that contact was lost
		}
	}
	return past
}

// raised reports whether the condition EndpointsLost is True.
func raised(status *v1alpha1.UpstreamClusterStatus) bool {
	return meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionEndpointsLost)
}

// stands says whether the status that an earlier agent reported of this spec still holds,
// so that a restart doesn't change it. It holds until the new agent has looked at
// everything, or knows better.
func stands(status *v1alpha1.UpstreamClusterStatus, generation int64, s agent.Snapshot) bool {
	if s.Settled || s.Expired || s.Failure != nil || s.OtherCluster() || s.Failing.Services > 0 ||
		!meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionAccepted) {
		return false
	}
	reachable := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReachable)
	if reachable == nil || reachable.ObservedGeneration != generation {
		return false
	}
	return reachable.Status == metav1.ConditionTrue || reachable.Status == metav1.ConditionFalse && !s.Complete
}

func reportReachable(status *v1alpha1.UpstreamClusterStatus, generation int64, s agent.Snapshot) {
	switch {
	case s.Complete:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionTrue, reasonComplete, "the view of the upstream is complete and kept up to date")
	case s.Failure != nil:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionFalse, string(s.Failure.Reason), clip(s.Failure.Error()))
	default:
		set(status, generation, v1alpha1.ConditionReachable, metav1.ConditionUnknown, reasonConnecting, "the upstream is being listed")
	}
}

func reportSynced(uc *v1alpha1.UpstreamCluster, s agent.Snapshot) {
	value, reason, message := synced(uc, s)
	set(&uc.Status, uc.Generation, v1alpha1.ConditionSynced, value, reason, clip(message))
}

// synced says whether every central object is as it should be.
func synced(uc *v1alpha1.UpstreamCluster, s agent.Snapshot) (value metav1.ConditionStatus, reason, message string) {
	annotate := func(key, value string) string {
		return fmt.Sprintf("kubectl annotate uc -n %s %s %s=%s", uc.Namespace, uc.Name, key, quoted(value))
	}
	switch {
	case s.OtherCluster():
		return metav1.ConditionFalse, reasonOtherCluster, fmt.Sprintf(
			"another cluster answers: the central objects are of %s, and it is %s; nothing is written; correct the Secret, or if that is meant: %s",
			s.Identity, s.Answers, annotate(v1alpha1.ConfirmIdentityAnnotation, s.Answers))
	case s.Expired:
		return metav1.ConditionFalse, reasonStale, "the upstream has been out of contact for longer than spec.staleAfter: its endpoints are marked not ready until it is back"
	case s.HeldDeletions > 0:
		return metav1.ConditionFalse, reasonDeletionsHeld, fmt.Sprintf(
			"%d of %d Services are gone upstream, which is more than the deletion guard allows; if that is meant: %s",
			s.HeldDeletions, s.Services, annotate(v1alpha1.ConfirmDeletionsAnnotation, strconv.Itoa(s.HeldDeletions)))
	case s.HeldLosses > 0:
		return metav1.ConditionFalse, reasonEndpointsHeld, fmt.Sprintf(
			"%d of %d Services have lost their last ready endpoint upstream, which is more than the deletion guard allows, and keep those that they had; if that is meant: %s",
			s.HeldLosses, s.Services, annotate(v1alpha1.ConfirmEndpointsAnnotation, strconv.Itoa(s.HeldLosses)))
	case s.Failing.Services > 0:
		return metav1.ConditionFalse, reasonWriteFailed, fmt.Sprintf("writing %d Services to the central cluster fails and is tried again: %s", s.Failing.Services, s.Failing.Message)
	case s.Rejected.Services > 0:
		return metav1.ConditionFalse, reasonRejected, fmt.Sprintf("the central cluster refuses objects of %d Services: %s", s.Rejected.Services, s.Rejected.Message)
	case !s.Settled && s.Complete:
		return metav1.ConditionUnknown, reasonSyncing, "the upstream's Services are being compared with the central objects for the first time"
	case !s.Settled:
		return metav1.ConditionUnknown, reasonPending, "waiting for a complete view of the upstream; central objects stay as they are"
	case !s.Complete:
		return metav1.ConditionUnknown, reasonStalled, "the upstream can't be read; central objects are as it was last seen"
	case s.Refused > 0:
		return metav1.ConditionTrue, reasonSyncedWithRefusals, "central objects are as the upstream has them, but for the refusals listed in status.refusals"
	}
	return metav1.ConditionTrue, reasonSynced, "central objects are as the upstream has them"
}

// reportLosses says whether many Services have lost their last ready endpoint at once.
func reportLosses(uc *v1alpha1.UpstreamCluster, s agent.Snapshot) {
	uc.Status.EndpointsLost = 0
	if !s.LossesRaised {
		set(&uc.Status, uc.Generation, v1alpha1.ConditionEndpointsLost, metav1.ConditionFalse, reasonWithinLimit, "the Services have endpoints, or lose them one by one")
		return
	}
	uc.Status.EndpointsLost = int32(s.Lost)
	set(&uc.Status, uc.Generation, v1alpha1.ConditionEndpointsLost, metav1.ConditionTrue, reasonLostAtOnce, fmt.Sprintf(
		"%d of %d Services have lost their last ready endpoint at about the same time and have none, %d more are held; look at the upstream, and at what was changed in spec.allowedCIDRs",
		s.Lost, s.Services, s.HeldLosses))
}

// reportRejected brings status to what a rejection says; counts stay as they were, since the objects do.
func reportRejected(status *v1alpha1.UpstreamClusterStatus, generation int64, reason, message string) {
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionFalse, reason, clip(message))
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

// quoted returns a value as a shell takes it for one word.
func quoted(value string) string {
	if !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// clip bounds a message to what an event may have, which is less than a condition may.
func clip(s string) string {
	const most = 1024 // bytes
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}
