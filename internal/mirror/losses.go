package mirror

import "time"

// Losses watches for many Services that lose their last ready endpoint at about the same
// time, which an upstream's failure looks like, or a mistake in a policy. It isn't safe for
// concurrent use.
type Losses struct {
	guard  *Guard
	limit  GuardLimit
	hold   bool
	lost   map[Key]bool // that lost their last ready endpoint, and have none yet
	raised bool
}

// NewLosses returns a Losses that lets losses happen, or holds them back as a Guard holds
// deletions. It goes on with what was in force.
func NewLosses(limit GuardLimit, hold bool, was InForce) *Losses {
	return &Losses{guard: NewGuard(limit, hold && was.Losses), limit: limit, hold: hold, lost: map[Key]bool{}, raised: was.LossesRaised}
}

// Note says whether a key is about to lose its last ready endpoint in the central cluster,
// and whether it has one there. It decides nothing: Judge does.
func (l *Losses) Note(key Key, losing, ready bool, now time.Time) {
	switch {
	case ready:
		delete(l.lost, key)
		l.guard.Note(key, losing)
	case l.guard.isDue(key):
		l.guard.Happened(key, now)
		l.lost[key] = true
	}
}

// Remember says that a key had lost its endpoints before the upstream was last served.
func (l *Losses) Remember(key Key) { l.lost[key] = true }

// Forget says that the central cluster has no Service for a key.
func (l *Losses) Forget(key Key) {
	l.guard.Note(key, false)
	delete(l.lost, key)
}

// Judge decides about all losses, given the number of the upstream's Services.
func (l *Losses) Judge(total int, now time.Time) {
	l.guard.forgetPast(now)
	l.guard.judge(total)
	l.raised = l.guard.holding || l.raised && !l.limit.Allows(total, len(l.lost)+len(l.guard.due))
}

// Holds reports whether a key keeps the endpoints that it would lose.
func (l *Losses) Holds(key Key) bool { return l.hold && l.guard.Holds(key) }

// Confirm lets the losses happen that are held; see Guard.Confirm.
func (l *Losses) Confirm(n int) (keys []Key, due int) {
	if !l.hold {
		return nil, 0
	}
	return l.guard.Confirm(n)
}

// Held returns how many Services keep endpoints that they would lose.
func (l *Losses) Held() int {
	if !l.hold {
		return 0
	}
	return l.guard.Held()
}

// Raised reports whether more Services than the limit allows have lost their last ready
// endpoint within GuardWindow, and as many still have none; and how many have none.
func (l *Losses) Raised() (raised bool, services int) { return l.raised, len(l.lost) }
