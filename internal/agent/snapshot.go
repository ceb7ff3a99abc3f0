package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// MaxRefusals is how many refusals a Snapshot lists.
	MaxRefusals = 20
	// maxNamed is how many keys a Snapshot names of those whose writes fail.
	maxNamed = 3
)

// Snapshot is an agent's state at one moment.
type Snapshot struct {
	// Started says that both views have been complete, or that the upstream has expired.
	Started bool
	// Settled says that every key has been looked at since the agent started: refusals
	// and the like are known again.
	Settled bool
	// Complete says that the view of the upstream is complete and kept up to date.
	Complete, Expired bool
	// LastView is when the view was last known to be complete; zero if never.
	LastView time.Time
	// Failure is why the view isn't complete; nil while the upstream is being listed.
	Failure *upstream.Error

	// Identity is the cluster that the central objects are of, and Answers the one that is
	// read now; "" where that can't be told. Where they differ nothing is written.
	Identity, Answers string

	Services, Endpoints, Ready int
	Waiting                    int
	HeldDeletions, HeldLosses  int
	LossesRaised               bool
	Lost                       int

	// Failing is what fails to be written and is tried again soon; Rejected what the central cluster refused.
	Failing, Rejected Failing

	Refused   int
	Refusals  []mirror.Refusal
	ByReasons map[mirror.Reason]int
}

// Failing are keys whose central objects aren't as they should be.
type Failing struct {
	Services int
	// Message names the first of them, and says why.
	Message string
}

// OtherCluster reports whether another cluster answers than the central objects are of.
func (s Snapshot) OtherCluster() bool {
	return s.Identity != "" && s.Answers != "" && s.Identity != s.Answers
}

// Snapshot returns the agent's state. It changes nothing.
func (a *Agent) Snapshot() Snapshot {
	var s Snapshot
	s.Services, s.Endpoints, s.Ready = a.view.Counts()
	s.Refused, s.Refusals = a.refusals.First(MaxRefusals)
	s.ByReasons = a.refusals.Counts()
	a.deciding.RLock()
	c := a.contact
	s.Complete, s.Expired, s.LastView, s.Failure = c.complete, c.expired, c.lastView, c.failure
	s.Identity = c.identity
	if c.known {
		s.Answers = cmp.Or(a.config.Source.Identity(), c.answered)
	}
	s.HeldDeletions, s.HeldLosses = a.guards.Deletions.Held(), a.guards.Losses.Held()
	s.LossesRaised, s.Lost = a.guards.Losses.Raised()
	a.deciding.RUnlock()
	a.mu.Lock()
	s.Started, s.Settled, s.Waiting = a.started, a.settled, len(a.waiting)
	s.Failing, s.Rejected = failing(a.failures, false), failing(a.failures, true)
	a.mu.Unlock()
	return s
}

func failing(all map[mirror.Key]failure, refused bool) Failing {
	var keys []mirror.Key
	for k, f := range all {
		if f.refused == refused {
			keys = append(keys, k)
		}
	}
	out := Failing{Services: len(keys)}
	if len(keys) == 0 {
		return out
	}
	slices.SortFunc(keys, mirror.Key.Compare)
	out.Message = fmt.Sprintf("%s: %s", keys[0], all[keys[0]].message)
	for _, k := range keys[1:min(len(keys), maxNamed)] {
		out.Message += fmt.Sprintf("; also %s", k)
	}
	if n := len(keys) - maxNamed; n > 0 {
		out.Message += fmt.Sprintf(" and %d more", n)
	}
	return out
}
