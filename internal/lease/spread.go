package lease

import (
	"context"
	"sync"
	"time"
)

const (
	// delayPerLease is by how much each Lease that a replica holds delays its taking another.
	delayPerLease = 300 * time.Millisecond
	// maxDelay bounds the delay, so that a replica that is alone serves everything soon.
	maxDelay = 3 * time.Second
)

// Spread makes a replica that holds Leases slower to take a free one than a replica
// that holds none, so that upstreams spread over the replicas. A process has one.
type Spread struct {
	mu       sync.Mutex
	held     int
	next     int
	attempts map[int]bool // under way, numbered in order of their start
}

// NewSpread returns a Spread of a replica that holds nothing.
func NewSpread() *Spread { return &Spread{attempts: map[int]bool{}} }

// acquire calls try when this replica's turn has come, and counts the Lease if try took it.
func (s *Spread) acquire(ctx context.Context, try func() error) error {
	attempt := s.begin()
	err := s.wait(ctx, attempt)
	if err == nil {
		err = try()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attempts, attempt)
	if err == nil {
		s.held++
	}
	return err
}

// gaveUp counts a Lease that is no longer held.
func (s *Spread) gaveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}

func (s *Spread) begin() (attempt int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	attempt = s.next
	s.next++
	s.attempts[attempt] = true
	return attempt
}

// delay is how long an attempt has to wait from its start on: for each Lease that the
// replica holds, and for each that it has tried to take for longer.
func (s *Spread) delay(attempt int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead := s.held
	for a := range s.attempts {
		if a < attempt {
			ahead++
		}
	}
	return min(time.Duration(ahead)*delayPerLease, maxDelay)
}

// wait returns when the attempt's delay is over. The delay shrinks when attempts ahead of it fail.
func (s *Spread) wait(ctx context.Context, attempt int) error {
	start := time.Now()
	ticker := time.NewTicker(delayPerLease / 10)
	defer ticker.Stop()
	for time.Since(start) < s.delay(attempt) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return ctx.Err()
}
