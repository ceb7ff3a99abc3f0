package lease

import (
	"context"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
)

// spreadLock is a lock that waits for its turn before it is taken, and knows when it
// was last renewed. One goroutine at a time uses it; the atomics are read by others.
type spreadLock struct {
	resourcelock.Interface
	spread *Spread
	clock  clock.PassiveClock
	holds  bool
	// mayHold says that the Lease may be this replica's for all that is known: a write
	// that failed without an answer may have been made.
	mayHold bool
	// renewed is when the last write that took or renewed the Lease began.
	renewed atomic.Pointer[time.Time]
	// decided is set once the Lease was taken, or seen to be another's.
	decided atomic.Bool
}

// Get implements resourcelock.Interface.
func (l *spreadLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := l.Interface.Get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		l.mayHold = false
	case err == nil && r.HolderIdentity != l.Identity():
		l.mayHold = false
		if r.HolderIdentity != "" {
			l.decided.Store(true)
		}
	}
	return r, raw, err
}

// Create implements resourcelock.Interface.
func (l *spreadLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.take(ctx, func() error { return l.Interface.Create(ctx, r) })
}

// Update implements resourcelock.Interface.
func (l *spreadLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	update := func() error { return l.Interface.Update(ctx, r) }
	if l.holds {
		return l.timed(update)
	}
	return l.take(ctx, update)
}

func (l *spreadLock) take(ctx context.Context, write func() error) error {
	err := l.spread.acquire(ctx, func() error {
		l.mayHold = true
		return l.timed(write)
	})
	if l.holds = err == nil; l.holds {
		l.decided.Store(true)
	}
	return err
}

// timed records when a write began that succeeded.
func (l *spreadLock) timed(write func() error) error {
	start := l.clock.Now()
	err := write()
	if err == nil {
		l.renewed.Store(&start)
	}
	return err
}

// fresh says whether the Lease was renewed within limit. A process that was frozen has
// lost its Lease before anything tells it so. So has one in a machine that slept, and
// there no time has passed by the monotonic clock: the wall clock counts, too.
func (l *spreadLock) fresh(limit time.Duration) bool {
	at := l.renewed.Load()
	return at != nil && max(l.clock.Since(*at), l.clock.Now().Round(0).Sub(at.Round(0))) < limit
}

// forget says that the Lease is no longer held.
func (l *spreadLock) forget() {
	l.renewed.Store(nil)
	if l.holds {
		l.holds = false
		l.spread.gaveUp()
	}
}

// release gives the Lease back, if it is this replica's, so that another can take it at once.
func (l *spreadLock) release(ctx context.Context) error {
	for {
		r, _, err := l.Interface.Get(ctx)
		if apierrors.IsNotFound(err) || err == nil && r.HolderIdentity != l.Identity() {
			return nil
		}
		if err != nil {
			return err
		}
		r.HolderIdentity, r.LeaseDurationSeconds = "", 1
		// A renewal that was under way when the work ended may have been made meanwhile.
		if err := l.Interface.Update(ctx, *r); !apierrors.IsConflict(err) {
			return err
		}
	}
}
