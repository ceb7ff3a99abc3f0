package upstreamtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Source is an upstream.Source that holds what a test puts into it and reports what a test
// tells it to. It is safe for concurrent use.
type Source struct {
	running chan struct{}
	once    sync.Once

	mu       sync.RWMutex
	observer upstream.Observer
	services map[mirror.Key]*mirror.Service
	identity string
	asked    int
	panics   map[mirror.Key]bool
	begins   func(upstream.Observer)
}

// NewSource returns a Source of a cluster of that identity.
func NewSource(identity string) *Source {
	return &Source{
		running: make(chan struct{}), services: map[mirror.Key]*mirror.Service{},
		identity: identity, panics: map[mirror.Key]bool{},
	}
}

// Run implements upstream.Source. A Source may be run again when it has ended.
func (s *Source) Run(ctx context.Context, o upstream.Observer) error {
	s.mu.Lock()
	s.observer = o
	begins := s.begins
	s.mu.Unlock()
	s.once.Do(func() { close(s.running) })
	if begins != nil {
		begins(o)
	}
	<-ctx.Done()
	return ctx.Err()
}

// Begins has Run report something first, such as that the inventory is complete.
func (s *Source) Begins(report func(upstream.Observer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begins = report
}

// Service implements upstream.Source.
func (s *Source) Service(key mirror.Key) (*mirror.Service, bool) {
	s.mu.Lock()
	s.asked++
	panics := s.panics[key]
	said, ok := s.services[key]
	s.mu.Unlock()
	if panics {
		panic("a Service that nobody thought of")
	}
	return said, ok
}

// Keys implements upstream.Source.
func (s *Source) Keys() []mirror.Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]mirror.Key, 0, len(s.services))
	for k := range s.services {
		keys = append(keys, k)
	}
	return keys
}

// Identity implements upstream.Source.
func (s *Source) Identity() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.identity
}

// Asked returns how often Service has been called.
func (s *Source) Asked() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.asked
}

// Panics has Service panic for a key, or not any more.
func (s *Source) Panics(key mirror.Key, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.panics[key] = is
}

// Put puts Services into the inventory before the first complete view, where nobody is told.
func (s *Source) Put(services ...*mirror.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, said := range services {
		s.services[said.Key] = said
	}
}

// Set has Services change, as a watch sees it.
func (s *Source) Set(t *testing.T, services ...*mirror.Service) {
	t.Helper()
	s.update(t, upstream.Live, func() (keys []mirror.Key) {
		s.Put(services...)
		for _, said := range services {
			keys = append(keys, said.Key)
		}
		return keys
	})
}

// Remove has Services go, as a listing finds it.
func (s *Source) Remove(t *testing.T, keys ...mirror.Key) {
	t.Helper()
	s.update(t, upstream.Listed, func() []mirror.Key {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, k := range keys {
			delete(s.services, k)
		}
		return keys
	})
}

// Replace has another cluster answer, with Services of its own, as a listing finds it.
func (s *Source) Replace(t *testing.T, identity string, services ...*mirror.Service) {
	t.Helper()
	s.update(t, upstream.Listed, func() []mirror.Key {
		keys := s.Keys()
		s.mu.Lock()
		s.identity = identity
		clear(s.services)
		s.mu.Unlock()
		s.Put(services...)
		for _, said := range services {
			if !slices.Contains(keys, said.Key) {
				keys = append(keys, said.Key)
			}
		}
		return keys
	})
}

// Identify has the cluster's identity change, as a watch sees it.
func (s *Source) Identify(t *testing.T, identity string) {
	t.Helper()
	s.update(t, upstream.Live, func() []mirror.Key {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.identity = identity
		return nil
	})
}

// Complete says that the inventory has been confirmed.
func (s *Source) Complete(t *testing.T) {
	t.Helper()
	s.told(t).Complete()
}

// Fail says that the inventory can't be confirmed.
func (s *Source) Fail(t *testing.T, err *upstream.Error) {
	t.Helper()
	s.told(t).Failed(err)
}

// Polled says what a reading has cost.
func (s *Source) Polled(t *testing.T, c upstream.Cycle) {
	t.Helper()
	s.told(t).Polled(c)
}

func (s *Source) update(t *testing.T, u upstream.Urgency, change func() []mirror.Key) {
	t.Helper()
	s.told(t).Update(u, change)
}

// told returns who is told, once the Source runs.
func (s *Source) told(t *testing.T) upstream.Observer {
	t.Helper()
	select {
	case <-s.running:
	case <-time.After(Limit):
		t.Fatal("nobody runs the source")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.observer
}

// Eventually returns when a condition holds, and fails the test when it doesn't in time.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(Limit)
	for !is() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("in vain: %s", what)
		}
	}
}
