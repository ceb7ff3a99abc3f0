package mirror

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func keys(n int) []Key {
	all := make([]Key, n)
	for i := range all {
		all[i] = Key{"team", fmt.Sprintf("s%03d", i)}
	}
	return all
}

// upstreamOf is an upstream's Services and a guard of their deletions.
type upstreamOf struct {
	*Guard
	total int
	now   time.Time
}

func guarded(total int, holding bool) *upstreamOf {
	return &upstreamOf{NewGuard(GuardLimit{MaxPercent: 30, MinServices: 10}, holding), total, time.Unix(1_000_000, 0)}
}

// lose notes deletions that come together.
func (u *upstreamOf) lose(keys ...Key) {
	for _, k := range keys {
		u.Note(k, true)
	}
	u.Judge(u.total, u.now)
}

// back notes Services that are there again.
func (u *upstreamOf) back(keys ...Key) {
	for _, k := range keys {
		u.Note(k, false)
	}
	u.Judge(u.total, u.now)
}

// carryOut deletes what isn't held and returns how much that was.
func (u *upstreamOf) carryOut(keys ...Key) (deleted int) {
	for _, k := range keys {
		if !u.Holds(k) {
			u.Happened(k, u.now)
			u.total--
			deleted++
		}
		u.Judge(u.total, u.now)
	}
	return deleted
}

func (u *upstreamOf) want(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func TestGuardJudgesWhatCameTogether(t *testing.T) {
	all := keys(20)
	u := guarded(20, false)
	u.lose(all[:6]...)
	u.want(t, "deleted of 30 %", u.carryOut(all[:6]...), 6)
	u = guarded(20, false)
	u.lose(all[:7]...)
	u.want(t, "deleted of more", u.carryOut(all[:7]...), 0)
	u.want(t, "held", u.Held(), 7)
}

func TestGuardCountsASlowDrain(t *testing.T) {
	all := keys(20)
	u := guarded(20, false)
	for i := range 6 {
		u.lose(all[i])
		u.want(t, "deleted", u.carryOut(all[i]), 1)
		u.now = u.now.Add(time.Minute)
	}
	u.lose(all[6])
	u.want(t, "held within ten minutes", u.Held(), 1)
	u.back(all[6])
	u.now = u.now.Add(GuardWindow)
	u.lose(all[6])
	u.want(t, "held afterwards", u.Held(), 0)
}

func TestGuardHoldIsSticky(t *testing.T) {
	all := keys(20)
	u := guarded(20, false)
	u.lose(all[:10]...)
	u.back(all[:9]...)
	u.want(t, "held when nine are back", u.Held(), 1)
	u.lose(all[10])
	u.want(t, "held with one more", u.Held(), 2)
	u.now = u.now.Add(2 * GuardWindow)
	u.Judge(u.total, u.now)
	u.want(t, "held after a while", u.Held(), 2)
	u.back(all[9], all[10])
	u.lose(all[0])
	u.want(t, "held when all had been back", u.Held(), 0)
}

func TestGuardTakesUpAHold(t *testing.T) {
	all := keys(20)
	u := guarded(20, true)
	u.lose(all[0])
	u.want(t, "held", u.Held(), 1)
	u = guarded(20, true)
	u.Judge(20, u.now)
	u.lose(all[0])
	u.want(t, "held where nothing was due", u.Held(), 0)
}

func TestGuardConfirm(t *testing.T) {
	all := keys(20)
	u := guarded(20, false)
	u.lose(all[:10]...)
	if let, due := u.Confirm(9); let != nil || due != 10 {
		t.Errorf("confirmed %v of %d", let, due)
	}
	let, due := u.Confirm(10)
	if !slices.Equal(let, all[:10]) || due != 10 {
		t.Errorf("confirmed %v of %d", let, due)
	}
	u.want(t, "held", u.Held(), 0)
	u.lose(all[10])
	u.want(t, "deleted", u.carryOut(all[:11]...), 11)
	u.lose(all[11])
	u.want(t, "held: what was confirmed doesn't count", u.Held(), 0)
	if let, _ := u.Confirm(5); let != nil {
		t.Errorf("confirmed %v without a hold", let)
	}
}

// What was let go is held again where more comes before it has happened.
func TestGuardHoldsWhatHasNotHappenedYet(t *testing.T) {
	all := keys(20)
	u := guarded(20, false)
	u.lose(all[:6]...)
	u.lose(all[6])
	u.want(t, "held", u.Held(), 7)
	u.Happened(all[0], u.now) // it was under way
	u.total--
	u.Judge(u.total, u.now)
	u.want(t, "held of the rest", u.Held(), 6)
}

func TestGuardHoldsWhatWasNotNoted(t *testing.T) {
	if !NewGuard(GuardLimit{MaxPercent: 100}, false).Holds(Key{"team", "web"}) {
		t.Error("a deletion that nobody has noted isn't held")
	}
}

func TestLosses(t *testing.T) {
	now, limit, all := time.Unix(1_000_000, 0), GuardLimit{MaxPercent: 30, MinServices: 10}, keys(20)
	lose := func(l *Losses, keys ...Key) {
		for _, k := range keys {
			l.Note(k, true, true, now)
		}
		l.Judge(20, now)
		for _, k := range keys {
			if !l.Holds(k) {
				l.Note(k, false, false, now)
			}
		}
		l.Judge(20, now)
	}
	raised := func(t *testing.T, l *Losses, want bool, services int) {
		t.Helper()
		if got, n := l.Raised(); got != want || n != services {
			t.Errorf("raised %t with %d Services, want %t with %d", got, n, want, services)
		}
	}
	t.Run("few", func(t *testing.T) {
		l := NewLosses(limit, false, InForce{})
		lose(l, all[:6]...)
		raised(t, l, false, 6)
	})
	t.Run("many are told until they are back", func(t *testing.T) {
		l := NewLosses(limit, false, InForce{})
		lose(l, all[:10]...)
		raised(t, l, true, 10)
		now = now.Add(3 * GuardWindow)
		l.Judge(20, now)
		raised(t, l, true, 10)
		for _, k := range all[:4] {
			l.Note(k, false, true, now)
		}
		l.Judge(20, now)
		raised(t, l, false, 6)
	})
	t.Run("one by one", func(t *testing.T) {
		l := NewLosses(limit, false, InForce{})
		for _, k := range all[:7] {
			lose(l, k)
		}
		raised(t, l, true, 7)
	})
	t.Run("held", func(t *testing.T) {
		l := NewLosses(limit, true, InForce{})
		lose(l, all[:10]...)
		raised(t, l, true, 0)
		if l.Held() != 10 {
			t.Errorf("%d are held", l.Held())
		}
		if let, _ := l.Confirm(10); len(let) != 10 || l.Holds(all[0]) {
			t.Errorf("confirmed %v", let)
		}
	})
	t.Run("held ones are back", func(t *testing.T) {
		l := NewLosses(limit, true, InForce{})
		lose(l, all[:10]...)
		for _, k := range all[:10] {
			l.Note(k, false, true, now)
		}
		l.Judge(20, now)
		raised(t, l, false, 0)
	})
	t.Run("restart", func(t *testing.T) {
		l := NewLosses(limit, false, InForce{LossesRaised: true})
		for _, k := range all[:8] {
			l.Remember(k)
		}
		l.Judge(20, now)
		raised(t, l, true, 8)
		for _, k := range all[:8] {
			l.Forget(k)
		}
		l.Judge(12, now)
		raised(t, l, false, 0)
	})
	t.Run("restart after a confirmation", func(t *testing.T) {
		l := NewLosses(limit, true, InForce{LossesRaised: true})
		for _, k := range all[:8] {
			l.Remember(k)
		}
		lose(l, all[8])
		if l.Held() > 0 {
			t.Errorf("%d are held though none was", l.Held())
		}
	})
	t.Run("restart during a hold", func(t *testing.T) {
		l := NewLosses(limit, true, InForce{Losses: true, LossesRaised: true})
		lose(l, all[0])
		if l.Held() != 1 {
			t.Errorf("%d are held", l.Held())
		}
	})
	t.Run("nothing to confirm", func(t *testing.T) {
		l := NewLosses(limit, false, InForce{})
		lose(l, all[:10]...)
		if let, due := l.Confirm(100); let != nil || due != 0 || l.Held() != 0 {
			t.Errorf("confirmed %v of %d", let, due)
		}
	})
}
