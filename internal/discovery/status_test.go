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
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

func TestReportAgent(t *testing.T) {
	view := time.Unix(1_700_000_000, 0)
	down := &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused"), Hint: "start it"}
	for name, tc := range map[string]struct {
		snapshot                  snapshot
		reachable, synced, reason string
	}{
		"connecting": {snapshot{}, "Unknown", "Unknown", "Connecting"},
		"in sync":    {snapshot{Settled: true, Complete: true, LastView: view}, "True", "True", "Synced"},
		"refusals": {snapshot{Settled: true, Complete: true, LastView: view, Refused: 1, Refusals: []mirror.Refusal{{}}},
			"True", "True", "SyncedWithRefusals"},
		"down":       {snapshot{Settled: true, LastView: view, Failure: down}, "False", "Unknown", "Unreachable"},
		"never seen": {snapshot{Failure: down}, "False", "Unknown", "Unreachable"},
		"held":       {snapshot{Settled: true, Complete: true, Held: 12, Services: 20}, "True", "False", "DeletionsHeld"},
		"expired":    {snapshot{Settled: true, Expired: true, Failure: down}, "False", "False", "Unreachable"},
		"write error": {snapshot{Settled: true, Complete: true, WriteErr: errors.New("no quota")},
			"True", "False", "WriteFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			uc.Name, uc.Namespace, uc.Generation = "us-east", "gimbal-discovery", 3
			reportAgent(uc, tc.snapshot)
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
	reportAgent(uc, snapshot{Settled: true, Complete: true, Held: 12, Services: 20})
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
		snapshot  snapshot
		want      time.Time
	}{
		"first":                 {snapshot: snapshot{Complete: true, LastView: at(0)}, want: at(0)},
		"not for a few minutes": {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: snapshot{Complete: true, LastView: at(4 * time.Minute)}, want: at(0)},
		"after five":            {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: snapshot{Complete: true, LastView: at(5 * time.Minute)}, want: at(5 * time.Minute)},
		"when it is back":       {old: &metav1.Time{Time: at(0)}, snapshot: snapshot{Complete: true, LastView: at(time.Minute)}, want: at(time.Minute)},
		"exact when lost":       {old: &metav1.Time{Time: at(0)}, reachable: true, snapshot: snapshot{LastView: at(2 * time.Minute)}, want: at(2 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			uc.Status.LastCompleteSync = tc.old
			if tc.reachable {
				set(&uc.Status, 1, v1alpha1.ConditionReachable, metav1.ConditionTrue, "Complete", "")
			}
			reportAgent(uc, tc.snapshot)
			if got := uc.Status.LastCompleteSync; !got.Time.Equal(tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestRejectionKeepsCounts(t *testing.T) {
	status := v1alpha1.UpstreamClusterStatus{Services: 214, Endpoints: 3120}
	reportRejected(&status, 1, &rejection{upstream.ReasonSecretNotFound, "Secret us-east doesn't exist"})
	if status.Services != 214 || status.Reason != upstream.ReasonSecretNotFound {
		t.Errorf("%d Services, reason %s", status.Services, status.Reason)
	}
}

// A restart alone is no news: an agent that hasn't looked at everything yet leaves what the one before it reported.
func TestStatusStandsThroughARestart(t *testing.T) {
	view := time.Unix(1_700_000_000, 0)
	down := &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused")}
	synced := snapshot{Settled: true, Complete: true, LastView: view, Services: 3, Refused: 1, Refusals: []mirror.Refusal{{}}}
	lost := snapshot{Settled: true, LastView: view, Failure: down, Services: 3}
	for name, tc := range map[string]struct {
		before, after snapshot
		generation    int64
		stands        bool
	}{
		"connecting":      {synced, snapshot{LastView: view}, 0, true},
		"first pass":      {synced, snapshot{LastView: view, Complete: true, Started: true}, 0, true},
		"out of contact":  {lost, snapshot{LastView: view}, 0, true},
		"another spec":    {synced, snapshot{LastView: view}, 1, false},
		"lost":            {synced, snapshot{LastView: view, Failure: down}, 0, false},
		"back":            {lost, snapshot{LastView: view, Complete: true}, 0, false},
		"a refusal ended": {synced, snapshot{Settled: true, Complete: true, LastView: view, Services: 3}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			uc := &v1alpha1.UpstreamCluster{}
			reportAgent(uc, tc.before)
			before := uc.DeepCopy()
			uc.Generation += tc.generation
			reportAgent(uc, tc.after)
			if got := equality.Semantic.DeepEqual(uc.Status, before.Status); got != tc.stands {
				t.Errorf("stands: %v, want %v: %+v", got, tc.stands, uc.Status)
			}
		})
	}
}
