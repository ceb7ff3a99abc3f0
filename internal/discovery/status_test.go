package discovery

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

func TestReportAgent(t *testing.T) {
	view := time.Unix(1_700_000_000, 0)
	down := &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused"), Hint: "start it"}
	for name, tc := range map[string]struct {
		snapshot                  agent.Snapshot
		reachable, synced, reason string
	}{
		"connecting": {agent.Snapshot{}, "Unknown", "Unknown", "Connecting"},
		"in sync":    {agent.Snapshot{Settled: true, Complete: true, LastView: view}, "True", "True", "Synced"},
		"refusals": {agent.Snapshot{Settled: true, Complete: true, LastView: view, Refused: 1, Refusals: []mirror.Refusal{{}}},
			"True", "True", "SyncedWithRefusals"},
		"down":       {agent.Snapshot{Settled: true, LastView: view, Failure: down}, "False", "Unknown", "Unreachable"},
		"never seen": {agent.Snapshot{Failure: down}, "False", "Unknown", "Unreachable"},
		"held":       {agent.Snapshot{Settled: true, Complete: true, HeldDeletions: 12, Services: 20}, "True", "False", "DeletionsHeld"},
		"expired":    {agent.Snapshot{Settled: true, Expired: true, Failure: down}, "False", "False", "Unreachable"},
		"write error": {agent.Snapshot{Settled: true, Complete: true, Failing: agent.Failing{Services: 1, Message: "team/web: no connection"}},
			"True", "False", "WriteFailed"},
		"rejected": {agent.Snapshot{Settled: true, Complete: true, Refused: 1, Rejected: agent.Failing{Services: 1, Message: "team/web: no quota"}},
			"True", "False", "Rejected"},
		"losses held":      {agent.Snapshot{Settled: true, Complete: true, HeldLosses: 12, Services: 20}, "True", "False", "EndpointsHeld"},
		"another cluster":  {agent.Snapshot{Settled: true, Complete: true, Identity: "a", Answers: "b"}, "True", "False", "OtherCluster"},
		"the same cluster": {agent.Snapshot{Settled: true, Complete: true, Identity: "a", Answers: "a"}, "True", "True", "Synced"},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			uc.Name, uc.Namespace, uc.Generation = "us-east", "gimbal-discovery", 3
			reportAgent(uc, tc.snapshot, "")
			for kind, want := range map[string]string{
				v1alpha1.ConditionAccepted: "True", v1alpha1.ConditionReachable: tc.reachable, v1alpha1.ConditionSynced: tc.synced,
			} {
				c := meta.FindStatusCondition(uc.Status.Conditions, kind)
				if string(c.Status) != want || c.ObservedGeneration != 3 {
					t.Errorf("%s is %s of generation %d, want %s", kind, c.Status, c.ObservedGeneration, want)
				}
			}
			if uc.Status.Reason != tc.reason {
				t.Errorf("reason %s, want %s", uc.Status.Reason, tc.reason)
			}
		})
	}
}

func TestHeldMessageNamesTheWayOut(t *testing.T) {
	uc := &v1alpha1.UpstreamCluster{}
	uc.Name, uc.Namespace = "us-east", "gimbal-discovery"
	reportAgent(uc, agent.Snapshot{Settled: true, Complete: true, HeldDeletions: 12, Services: 20}, "")
	want := "kubectl annotate uc -n gimbal-discovery us-east gimbal.projectcontour.io/confirm-deletions=12"
	if m := meta.FindStatusCondition(uc.Status.Conditions, v1alpha1.ConditionSynced).Message; !strings.Contains(m, want) {
		t.Errorf("%q doesn't say %q", m, want)
	}
}

func TestLastCompleteSync(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }
	for name, tc := range map[string]struct {
		old       *metav1.Time
		reachable bool // it was
		snapshot  agent.Snapshot
		want      time.Time
	}{
		"first":                 {snapshot: agent.Snapshot{Complete: true, LastView: at(0)}, want: at(0)},
		"not for a few minutes": {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: agent.Snapshot{Complete: true, LastView: at(4 * time.Minute)}, want: at(0)},
		"after five":            {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: agent.Snapshot{Complete: true, LastView: at(5 * time.Minute)}, want: at(5 * time.Minute)},
		"when it is back":       {old: &metav1.Time{Time: at(0)}, snapshot: agent.Snapshot{Complete: true, LastView: at(time.Minute)}, want: at(time.Minute)},
		"exact when lost":       {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: agent.Snapshot{LastView: at(2 * time.Minute)}, want: at(2 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			uc.Status.LastCompleteSync = tc.old
			if tc.reachable {
				set(&uc.Status, 1, v1alpha1.ConditionReachable, metav1.ConditionTrue, "Complete", "")
			}
			reportAgent(uc, tc.snapshot, "")
			if got := uc.Status.LastCompleteSync; !got.Time.Equal(tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestRejectionKeepsCounts(t *testing.T) {
	status := v1alpha1.UpstreamClusterStatus{Services: 214, Endpoints: 3120}
	reportRejected(&status, 1, upstream.ReasonSecretNotFound, "Secret us-east doesn't exist")
	if status.Services != 214 || status.Reason != upstream.ReasonSecretNotFound {
		t.Errorf("%d Services, reason %s", status.Services, status.Reason)
	}
}

// An agent that hasn't looked at everything yet leaves what the one before it reported.
func TestStatusStandsThroughARestart(t *testing.T) {
	view := time.Unix(1_700_000_000, 0)
	down := &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused")}
	synced := agent.Snapshot{Settled: true, Complete: true, LastView: view, Services: 3, Refused: 1, Refusals: []mirror.Refusal{{}}}
	lost := agent.Snapshot{Settled: true, LastView: view, Failure: down, Services: 3}
	for name, tc := range map[string]struct {
		before, after agent.Snapshot
		generation    int64
		stands        bool
	}{
		"connecting":      {synced, agent.Snapshot{LastView: view}, 0, true},
		"first pass":      {synced, agent.Snapshot{LastView: view, Complete: true, Started: true}, 0, true},
		"out of contact":  {lost, agent.Snapshot{LastView: view}, 0, true},
		"another spec":    {synced, agent.Snapshot{LastView: view}, 1, false},
		"lost":            {synced, agent.Snapshot{LastView: view, Failure: down}, 0, false},
		"back":            {lost, agent.Snapshot{LastView: view, Complete: true}, 0, false},
		"a refusal ended": {synced, agent.Snapshot{Settled: true, Complete: true, LastView: view, Services: 3}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			reportAgent(uc, tc.before, "")
			before := uc.DeepCopy()
			uc.Generation += tc.generation
			reportAgent(uc, tc.after, "")
			if got := equality.Semantic.DeepEqual(uc.Status, before.Status); got != tc.stands {
				t.Errorf("stands: %v, want %v: %+v", got, tc.stands, uc.Status)
			}
		})
	}
}
