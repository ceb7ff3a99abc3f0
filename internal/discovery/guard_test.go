package discovery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// world is a central cluster and an upstream as the guard sees them.
type world struct {
	central, upstream map[mirror.Key]bool
	now               time.Time
}

func newWorld(services int) *world {
	w := &world{central: map[mirror.Key]bool{}, upstream: map[mirror.Key]bool{}, now: time.Unix(1_700_000_000, 0)}
	for i := range services {
		w.central[keyOf(i)], w.upstream[keyOf(i)] = true, true
	}
	return w
}

func keyOf(i int) mirror.Key {
	return mirror.Key{Namespace: "team-a", Name: fmt.Sprintf("web-%03d", i)}
}

func (w *world) orphans() (keys []mirror.Key, total int) {
	for k := range w.central {
		if !w.upstream[k] {
			keys = append(keys, k)
		}
	}
	return keys, len(w.central)
}

func (w *world) guard(rule mirror.Guard, holding bool) *guard {
	return newGuard(rule, holding, func() time.Time { return w.now }, w.orphans)
}

// reconcile deletes what the guard admits and returns how many Services that were.
func (w *world) reconcile(g *guard) int {
	deleted := 0
	for k := range w.central {
		switch {
		case w.upstream[k]:
			g.Withdraw(k)
		case g.Admit(k):
			delete(w.central, k)
			g.Deleted(k)
			deleted++
		}
	}
	return deleted
}

func (w *world) lose(from, to int) {
	for i := from; i < to; i++ {
		delete(w.upstream, keyOf(i))
	}
}

var guardRule = mirror.Guard{MaxPercent: 30, MinServices: 10}

func TestGuardDecidesForAllThatVanishTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		services, lost, deleted, held int
	}{
		"one of many":             {services: 20, lost: 1, deleted: 1},
		"the share exactly":       {services: 20, lost: 6, deleted: 6},
		"one more than it":        {services: 20, lost: 7, held: 7},
		"all":                     {services: 20, lost: 20, held: 20},
		"all of a small upstream": {services: 9, lost: 9, deleted: 9},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(tc.services)
			g := w.guard(guardRule, false)
			w.lose(0, tc.lost)
			if got := w.reconcile(g); got != tc.deleted {
				t.Errorf("deleted %d, want %d", got, tc.deleted)
			}
			if got := g.Held(); got != tc.held {
				t.Errorf("held %d, want %d", got, tc.held)
			}
		})
	}
}

func TestGuardCountsDeletionsOfTheWindow(t *testing.T) {
	w := newWorld(20)
	g := w.guard(guardRule, false)
	for i := range 10 {
		w.lose(i, i+1)
		w.reconcile(g)
		w.now = w.now.Add(time.Second)
	}
	if got := len(w.central); got != 14 {
		t.Errorf("a drip of 10 deletions left %d Services, want 14", got)
	}
	if g.Held() != 4 {
		t.Errorf("held %d, want 4", g.Held())
	}

	slow := newWorld(20)
	g = slow.guard(guardRule, false)
	for i := range 10 {
		slow.lose(i, i+1)
		slow.reconcile(g)
		slow.now = slow.now.Add(guardWindow / 2)
	}
	if got := len(slow.central); got != 10 {
		t.Errorf("slow deletions left %d Services, want 10", got)
	}
}

func TestGuardHoldIsSticky(t *testing.T) {
	w := newWorld(20)
	g := w.guard(guardRule, false)
	w.lose(0, 10)
	w.reconcile(g)
	w.lose(10, 11)
	w.now = w.now.Add(24 * time.Hour)
	if w.reconcile(g) != 0 || g.Held() != 11 {
		t.Errorf("a later deletion didn't join the hold: held %d", g.Held())
	}
	restarted := w.guard(guardRule, true)
	restarted.Begin()
	if w.reconcile(restarted) != 0 || restarted.Held() != 11 {
		t.Errorf("after a restart %d are held, want 11", restarted.Held())
	}
}

func TestGuardHoldEndsWhenTheUpstreamIsBack(t *testing.T) {
	w := newWorld(20)
	g := w.guard(guardRule, false)
	w.lose(0, 20)
	w.reconcile(g)
	for i := range 20 {
		w.upstream[keyOf(i)] = true
	}
	w.reconcile(g)
	w.lose(3, 4)
	if got := w.reconcile(g); got != 1 {
		t.Errorf("after the hold %d deleted, want 1", got)
	}
	restarted := newWorld(20)
	g = restarted.guard(guardRule, true)
	g.Begin()
	restarted.lose(3, 4)
	if got := restarted.reconcile(g); got != 1 {
		t.Errorf("a hold that ended while nobody looked still holds: %d deleted, want 1", got)
	}
}

func TestGuardConfirm(t *testing.T) {
	w := newWorld(20)
	g := w.guard(guardRule, false)
	if keys, _ := g.Confirm(100); keys != nil {
		t.Error("confirmed without a hold")
	}
	w.lose(0, 12)
	w.reconcile(g)
	if keys, due := g.Confirm(11); keys != nil || due != 12 {
		t.Errorf("11 confirmed of 12 held: admitted %d, due %d", len(keys), due)
	}
	if w.reconcile(g) != 0 {
		t.Error("too small a confirmation deleted")
	}
	keys, _ := g.Confirm(12)
	slices.SortFunc(keys, mirror.Key.Compare)
	if len(keys) != 12 || keys[0] != keyOf(0) {
		t.Errorf("admitted %v", keys)
	}
	if got := w.reconcile(g); got != 12 || g.Held() != 0 {
		t.Errorf("deleted %d, held %d; want 12, 0", got, g.Held())
	}
	w.lose(12, 20)
	if got := w.reconcile(g); got != 8 {
		t.Errorf("an upstream of 8 Services isn't guarded; deleted %d", got)
	}
}

// Between a Service's deletion and the guard's being told of it another one is judged: the first still counts.
func TestGuardCountsDeletionsUnderWay(t *testing.T) {
	w := newWorld(12)
	g := w.guard(guardRule, false)
	w.lose(0, 3)
	for i := range 3 {
		if !g.Admit(keyOf(i)) {
			t.Fatalf("deletion %d of 12 isn't admitted", i+1)
		}
		delete(w.central, keyOf(i))
	}
	w.lose(3, 4)
	if g.Admit(keyOf(3)) {
		t.Error("the fourth deletion of 12 is admitted while three are under way")
	}
	for i := range 3 {
		g.Deleted(keyOf(i))
	}
	w.lose(4, 5)
	if g.Admit(keyOf(4)); g.Held() != 2 {
		t.Errorf("%d are held, want 2", g.Held())
	}
}

// What an operator confirmed goes ahead, whatever else is gone by then.
func TestGuardKeepsConfirmations(t *testing.T) {
	w := newWorld(20)
	g := w.guard(guardRule, false)
	w.lose(0, 12)
	w.reconcile(g)
	if _, due := g.Confirm(12); due != 12 {
		t.Fatalf("%d are due, want 12", due)
	}
	w.lose(12, 20)
	if g.Admit(keyOf(12)) {
		t.Error("a deletion that wasn't confirmed is admitted with the confirmed ones")
	}
	if !g.Admit(keyOf(0)) || g.Held() != 8 {
		t.Errorf("the confirmed deletions are held again: %d are, want 8", g.Held())
	}
}

func TestGuardHoldsNoDeletionThatWasUnderWay(t *testing.T) {
	w := newWorld(12)
	g := w.guard(guardRule, false)
	w.lose(0, 1)
	if !g.Admit(keyOf(0)) {
		t.Fatal("one of twelve isn't admitted")
	}
	w.lose(1, 8)
	if g.Admit(keyOf(1)) {
		t.Fatal("eight of twelve are admitted")
	}
	delete(w.central, keyOf(0))
	g.Deleted(keyOf(0))
	if g.Held() != 7 {
		t.Errorf("held %d, want 7: one is gone", g.Held())
	}
}
