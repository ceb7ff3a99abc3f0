// Package upstreamtest runs a Source in a test and keeps what it reports.
package upstreamtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Limit is how long a test waits for what must come.
const Limit = time.Minute

// Recorder is an Observer that keeps what it is told.
type Recorder struct {
	mu   sync.Mutex
	more chan struct{} // closed at the next report
	got  Reports
}

// Reports is what a Source has reported so far.
type Reports struct {
	Changed   []mirror.Key // live
	Relisted  []mirror.Key
	Completed int
	Cycles    []upstream.Cycle
	Failures  []*upstream.Error
	Last      string // Complete, or the reason of the failure
}

// Complete is the last report where the inventory has been confirmed.
const Complete = "Complete"

// Run runs a Source until the test ends.
func Run(t *testing.T, s upstream.Source) *Recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{more: make(chan struct{})}
	done := make(chan error)
	go func() { done <- s.Run(ctx, r) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(2 * time.Second):
			t.Error("Run goes on after its context has ended")
		}
	})
	return r
}

// Seen returns what has been reported so far.
func (r *Recorder) Seen() Reports {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// Reset forgets what was reported.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = Reports{}
}

// Wait returns when the condition holds, and fails the test when it doesn't in time.
func (r *Recorder) Wait(t *testing.T, what string, is func(Reports) bool) {
	t.Helper()
	timeout := time.After(Limit)
	for {
		r.mu.Lock()
		got, more := r.got, r.more
		r.mu.Unlock()
		if is(got) {
			return
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("no %s in %v; reported: %+v", what, Limit, r.Seen())
		}
	}
}

// WaitFor waits for a report of that name from now on.
func (r *Recorder) WaitFor(t *testing.T, last string) {
	t.Helper()
	before := r.Seen()
	r.Wait(t, last, func(got Reports) bool {
		return got.Last == last && (got.Completed > before.Completed || len(got.Failures) > len(before.Failures))
	})
}

func (r *Recorder) report(f func(*Reports)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.got)
	close(r.more)
	r.more = make(chan struct{})
}

// Update is of Observer.
func (r *Recorder) Update(u upstream.Urgency, change func() []mirror.Key) {
	keys := change()
	r.report(func(got *Reports) {
		if u == upstream.Live {
			got.Changed = append(got.Changed, keys...)
		} else {
			got.Relisted = append(got.Relisted, keys...)
		}
	})
}

// Complete is of Observer.
func (r *Recorder) Complete() {
	r.report(func(got *Reports) { got.Completed++; got.Last = Complete })
}

// Polled is of Observer.
func (r *Recorder) Polled(c upstream.Cycle) {
	r.report(func(got *Reports) { got.Cycles = append(got.Cycles, c) })
}

// Failed is of Observer.
func (r *Recorder) Failed(err *upstream.Error) {
	r.report(func(got *Reports) { got.Failures = append(got.Failures, err); got.Last = string(err.Reason) })
}

// Read reads all of a Source, over and over, from several goroutines at once, until stop is called.
func Read(s upstream.Source) (stop func()) {
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					for _, k := range s.Keys() {
						s.Service(k)
					}
				}
			}
		})
	}
	return func() { close(done); readers.Wait() }
}
