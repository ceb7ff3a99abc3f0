package discovery

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// guardWindow is how long a deletion counts towards the deletion guard's share.
const guardWindow = 10 * time.Minute

// guard applies the deletion guard to one upstream. It decides for all Services
// that would vanish together, so that a listing that lost half of them has none deleted.
//
// A hold is sticky: it ends when an operator confirms it or when every held
// Service is back upstream, and until then every further deletion joins it.
type guard struct {
	rule mirror.Guard
	now  func() time.Time
	// orphans returns the keys of central Services that are to go, and the number of central Services.
	orphans func() (keys []mirror.Key, total int)

	mu       sync.Mutex
	holding  bool
	held     map[mirror.Key]bool
	admitted map[mirror.Key]admission
	deleted  []time.Time
}

// admission is why a deletion may happen; 0 if it may not.
type admission int

const (
	byShare    admission = iota + 1 // it is within the guard's share, and counts towards it
	byOperator                      // it was confirmed
)

// newGuard returns a guard; holding says whether a hold was in force when the upstream was last served.
func newGuard(rule mirror.Guard, holding bool, now func() time.Time, orphans func() ([]mirror.Key, int)) *guard {
	return &guard{
		rule: rule, holding: holding, now: now, orphans: orphans,
		held: map[mirror.Key]bool{}, admitted: map[mirror.Key]admission{},
	}
}

// Admit says whether the central Service of a key, which the upstream no longer has, may be deleted.
func (g *guard) Admit(key mirror.Key) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.admitted[key] != 0 {
		return true
	}
	if g.held[key] {
		return false
	}
	pending, total := g.orphans()
	if !slices.Contains(pending, key) {
		pending = append(pending, key)
	}
	g.decide(pending, total)
	return g.admitted[key] != 0
}

// Begin takes up a hold that was in force when the upstream was last served, if
// any of its deletions is still due. It is called once, when both sides' views are complete.
func (g *guard) Begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.holding {
		return
	}
	pending, total := g.orphans()
	g.holding = len(pending) > 0
	g.decide(pending, total)
}

// decide judges every deletion that is due at present, but those that were confirmed.
func (g *guard) decide(pending []mirror.Key, total int) {
	now := g.now()
	due := make(map[mirror.Key]bool, len(pending))
	for _, k := range pending {
		due[k] = true
	}
	for k, why := range g.admitted {
		if why == byShare && !due[k] {
			g.deleted = append(g.deleted, now) // its Service is gone; Deleted is about to say so
		}
	}
	pending = slices.DeleteFunc(pending, func(k mirror.Key) bool { return g.admitted[k] == byOperator })
	maps.DeleteFunc(g.admitted, func(_ mirror.Key, why admission) bool { return why == byShare })
	g.deleted = slices.DeleteFunc(g.deleted, func(t time.Time) bool { return t.Before(now.Add(-guardWindow)) })
	past := len(g.deleted)
	clear(g.held)
	g.holding = g.holding || !g.rule.Allows(total+past, len(pending)+past)
	for _, k := range pending {
		if g.holding {
			g.held[k] = true
		} else {
			g.admitted[k] = byShare
		}
	}
}

// Deleted records that the Service of an admitted key was deleted.
func (g *guard) Deleted(key mirror.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held[key] { // it was under way when a hold began
		delete(g.held, key)
		g.holding = len(g.held) > 0
		g.deleted = append(g.deleted, g.now())
	}
	if g.admitted[key] == byShare {
		g.deleted = append(g.deleted, g.now())
	}
	delete(g.admitted, key)
}

// Withdraw says that a key needs no deletion: the upstream has its Service, or the
// central cluster has none. It reports whether the key was held.
func (g *guard) Withdraw(key mirror.Key) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.admitted, key)
	if !g.held[key] {
		return false
	}
	delete(g.held, key)
	g.holding = len(g.held) > 0
	return true
}

// Confirm admits every deletion that is due if there are at most n of them, and
// returns the keys it admitted and how many deletions are due.
func (g *guard) Confirm(n int) (admitted []mirror.Key, due int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pending, _ := g.orphans()
	if !g.holding || len(pending) > n {
		return nil, len(pending)
	}
	g.holding = false
	clear(g.held)
	g.deleted = nil
	for _, k := range pending {
		g.admitted[k] = byOperator
	}
	return pending, len(pending)
}

// Held returns how many deletions are held.
func (g *guard) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held)
}
