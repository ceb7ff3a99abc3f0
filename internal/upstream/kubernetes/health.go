package kubernetes

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// probeRetry is the time from one probe to the next while not all is well.
const probeRetry = time.Second

// The inventory is confirmed when the last probe succeeded and every resource has been
// listed, hasn't lost its place since, and isn't failing. A probe alone won't do: the
// first page of a listing may be fine and the second never.

// failed says that a request of a resource failed.
func (s *Source) failed(r *resource, verb string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := classify(verb, r.kind, err)
	r.err = e
	s.probeSoon()
	s.observer.Failed(e)
}

// watching says that a watch of a resource goes on where the last one ended.
func (s *Source) watching(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.mustList {
		r.err = nil
	}
}

// probeSoon makes the next probe come soon. It is called with mu held.
func (s *Source) probeSoon() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// current reports whether the inventory is as the upstream was at the last word from
// it. It is called with mu held.
func (s *Source) current() bool {
	return s.all(func(r *resource) bool { return r.synced && !r.mustList && r.err == nil })
}

// confirm reports that the inventory is confirmed, if it is. It is called with mu held.
func (s *Source) confirm() {
	if s.current() {
		s.announced = true
		s.observer.Complete()
	}
}

func (s *Source) all(is func(*resource) bool) bool {
	return !slices.ContainsFunc(s.resources, func(r *resource) bool { return !is(r) })
}

// probe confirms the inventory time and again until ctx ends.
func (s *Source) probe(ctx context.Context) {
	last := time.Now()
	for {
		timer := time.NewTimer(time.Until(last.Add(s.probeInterval())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
			last = time.Now()
			s.reportProbe(ctx, s.probeAll(ctx))
		}
	}
}

func (s *Source) probeInterval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probeErr == nil && s.current() {
		return s.options.ProbeInterval
	}
	return min(probeRetry, s.options.ProbeInterval)
}

// probeAll probes all resources at the same time and returns the first failure in order of resource.
func (s *Source) probeAll(ctx context.Context) error {
	failures := make([]error, len(s.resources))
	var wg sync.WaitGroup
	for i, r := range s.resources {
		wg.Go(func() {
			if err := r.probe(ctx); err != nil {
				failures[i] = classify("list", r.kind, err)
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// reportProbe reports what a probe found.
func (s *Source) reportProbe(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	s.probeErr = err
	for _, r := range s.resources {
		if err == nil {
			err = r.err
		}
	}
	if failure := new(upstream.Error); errors.As(err, &failure) {
		s.observer.Failed(failure)
	} else {
		s.confirm()
	}
}
