package mirror

import (
	"slices"
	"time"
)

// GuardWindow is how long something that happened counts towards a guard's share.
const GuardWindow = 10 * time.Minute

// GuardLimit says when so much of an upstream would go at once that an operator should
// confirm it.
type GuardLimit struct {
	// MaxPercent is the share of the Services, from 0 to 100, that may go.
	MaxPercent int
	// MinServices is the number of Services below which an upstream isn't guarded.
	MinServices int
}

// Allows reports whether so many of an upstream's total Services may go.
func (l GuardLimit) Allows(total, going int) bool {
	return going <= 0 || total < l.MinServices || going*100 <= l.MaxPercent*total
}

// Guard counts what is due to happen to an upstream's Services, one key at a time, and
// holds all of it when it is more than the limit allows. It isn't safe for concurrent use.
//
// A hold is sticky: it ends when an operator confirms it or when nothing is due any more,
// and until then whatever else is due joins it. What happened within GuardWindow counts
// too, so that a slow drain doesn't pass below the limit.
//
// Each call but Confirm costs the same however many Services there are.
type Guard struct {
	limit     GuardLimit
	holding   bool
	due       map[Key]bool // true: an operator has confirmed it
	confirmed int          // of due
	past      []time.Time  // what happened within GuardWindow
}

// NewGuard returns a Guard; holding says whether a hold was in force when the upstream was
// last served.
func NewGuard(limit GuardLimit, holding bool) *Guard {
	return &Guard{limit: limit, holding: holding, due: map[Key]bool{}}
}

// Note says whether something is due for a key. It decides nothing: Judge does, after all
// that changed together has been noted.
func (g *Guard) Note(key Key, due bool) {
	confirmed, was := g.due[key]
	switch {
	case due && !was:
		g.due[key] = false
	case !due && was:
		g.remove(key, confirmed)
	}
}

func (g *Guard) remove(key Key, confirmed bool) {
	delete(g.due, key)
	if confirmed {
		g.confirmed--
	}
}

// Judge decides about all that is due, given the number of the upstream's Services, those
// that are gone not among them.
func (g *Guard) Judge(total int, now time.Time) {
	g.forgetPast(now)
	g.judge(total + len(g.past))
}

// forgetPast drops what happened too long ago to count.
func (g *Guard) forgetPast(now time.Time) {
	for len(g.past) > 0 && g.past[0].Before(now.Add(-GuardWindow)) {
		g.past = g.past[1:]
	}
}

// judge decides, given the number of Services before what happened within GuardWindow.
func (g *Guard) judge(before int) {
	pending := len(g.due) - g.confirmed
	if pending == 0 {
		g.holding = false
		return
	}
	g.holding = g.holding || !g.limit.Allows(before, pending+len(g.past))
}

// Holds reports whether what is due for a key has to wait. What hasn't been noted has to,
// too: what came with it isn't known yet.
func (g *Guard) Holds(key Key) bool {
	confirmed, due := g.due[key]
	return !due || g.holding && !confirmed
}

// Happened says that what was due for a key has been done.
func (g *Guard) Happened(key Key, now time.Time) {
	confirmed, due := g.due[key]
	if !due {
		return
	}
	g.remove(key, confirmed)
	if !confirmed {
		g.past = append(g.past, now)
	}
}

func (g *Guard) isDue(key Key) bool {
	_, due := g.due[key]
	return due
}

// Confirm lets what is held happen, if there is a hold and at most n things are due. It
// returns the keys that it let go, sorted, and how many were due.
func (g *Guard) Confirm(n int) (keys []Key, due int) {
	due = len(g.due)
	if !g.holding || due > n {
		return nil, due
	}
	g.holding = false
	g.confirmed, g.past = due, nil
	for key := range g.due {
		g.due[key] = true
		keys = append(keys, key)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys, due
}

// Held returns how much is held.
func (g *Guard) Held() int {
	if !g.holding {
		return 0
	}
	return len(g.due) - g.confirmed
}
