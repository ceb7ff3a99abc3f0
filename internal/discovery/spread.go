package discovery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// modesty is by how much each Lease that a replica holds delays its taking another.
const (
	modesty    = 300 * time.Millisecond
	modestyMax = 3 * time.Second
)

// spread makes a replica that holds Leases slower to take a free one than a replica
// that holds none, so that upstreams spread over the replicas.
type spread struct {
	mu     sync.Mutex
	held   int
	next   int
	trying map[int]bool // attempts under way, in order of their start
}

func newSpread() *spread { return &spread{trying: map[int]bool{}} }

// rank returns how many Leases this replica holds or tries for since before an attempt.
func (s *spread) rank(attempt int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	rank := s.held
	for a := range s.trying {
		if a < attempt {
			rank++
		}
	}
	return rank
}

// take tries for a Lease when this replica's turn has come, and counts it if it was won.
func (s *spread) take(ctx context.Context, try func() error) error {
	s.mu.Lock()
	attempt := s.next
	s.next++
	s.trying[attempt] = true
	s.mu.Unlock()
	s.wait(ctx, attempt)
	err := try()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.trying, attempt)
	if err == nil {
		s.held++
	}
	return err
}

// lose counts a Lease that is no longer held.
func (s *spread) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}

func (s *spread) wait(ctx context.Context, attempt int) {
	start := time.Now()
	ticker := time.NewTicker(modesty / 10)
	defer ticker.Stop()
	for time.Since(start) < min(time.Duration(s.rank(attempt))*modesty, modestyMax) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// modestLock is a lock that is taken in turn.
type modestLock struct {
	resourcelock.Interface
	spread *spread
	holds  bool
	// renewed is when the last write that took or renewed the Lease began.
	renewed atomic.Pointer[time.Time]
	// tried is set once the Lease was tried for, or seen to be another's.
	tried atomic.Bool
}

// Get implements resourcelock.Interface.
func (l *modestLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := l.Interface.Get(ctx)
	if err == nil && r.HolderIdentity != "" && r.HolderIdentity != l.Identity() {
		l.tried.Store(true)
	}
	return r, raw, err
}

// Create implements resourcelock.Interface.
func (l *modestLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.spread.take(ctx, func() error {
		return l.timed(func() error { return l.Interface.Create(ctx, r) })
	})
	l.holds = err == nil
	l.tried.Store(true)
	return err
}

// timed records when a write began that succeeded.
func (l *modestLock) timed(write func() error) error {
	start := time.Now()
	err := write()
	if err == nil {
		l.renewed.Store(&start)
	}
	return err
}

// fresh says whether the Lease was renewed within limit. A process that was frozen has
// lost its Lease before anything tells it so, and so has one in a machine that slept, by
// whose monotonic clock no time has passed.
func (l *modestLock) fresh(limit time.Duration) bool {
	at := l.renewed.Load()
	return at != nil && max(time.Since(*at), time.Now().Round(0).Sub(at.Round(0))) < limit
}

// Update implements resourcelock.Interface.
func (l *modestLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	update := func() error {
		return l.timed(func() error { return l.Interface.Update(ctx, r) })
	}
	if r.HolderIdentity != l.Identity() { // it gives the Lease back
		l.release()
		return l.Interface.Update(ctx, r)
	}
	if l.holds {
		return update()
	}
	err := l.spread.take(ctx, update)
	l.holds = err == nil
	l.tried.Store(true)
	return err
}

// release says that the Lease is given back or was lost.
func (l *modestLock) release() {
	l.renewed.Store(nil)
	if l.holds {
		l.holds = false
		l.spread.lose()
	}
}
