package kubernetes

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// probeAgain is the time from one probe to the next while not all is well.
const probeAgain = time.Second

// The inventory is confirmed when the last probe succeeded and every resource has been
// listed, hasn't lost its place since, and isn't failing. A probe alone won't do: the
// first page of a listing may be fine and the second never.

// losing says that a resource is going to be listed again, and has the others listed
// again with it: a view is taken in as a whole. Else an upstream that lists nothing
// would have its endpoints gone before its Services are, whose deletion is guarded.
func (s *Source) losing(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worsened()
	if r.lost {
		return
	}
	for _, other := range s.resources {
		if !other.lost && other != r {
			other.again()
		}
		other.lost = true
	}
}

// isLost says whether a resource has to be listed again.
func (s *Source) isLost(r *resource) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.lost
}

// failed says that a request of a resource failed.
func (s *Source) failed(r *resource, verb string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := classify(verb, r.kind, err)
	r.err = e
	s.worsened()
	s.observer.Failed(e)
}

// watching says that a watch of a resource goes on where the last one ended.
func (s *Source) watching(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.lost {
		r.err = nil
	}
}

// put takes in a single object of a resource; row is nil where it is gone.
func (s *Source) put(r *resource, key mirror.Key, row row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.listing == nil {
		change := func() []mirror.Key { return s.inventory.put(r.kind, key, row) }
		if s.complete {
			s.observer.Update(upstream.Live, change)
		} else {
			change()
		}
		return
	}
	if old := r.listing[key]; old != nil {
		r.used = r.used.minus(old.size())
		delete(r.listing, key)
	}
	if row != nil {
		r.used = r.used.plus(row.size())
		r.listing[key] = row
	}
}

// with returns the size that what is kept of a resource would have with the item. A
// listing that waits is bounded as the inventory is: the upstream decides how long it waits.
func (s *Source) with(r *resource, i *item) size {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.listing == nil {
		return s.inventory.with(r.kind, i)
	}
	used := r.used.plus(i.row.size())
	if old := r.listing[i.key]; old != nil {
		used = used.minus(old.size())
	}
	return used
}

// listed takes in a complete listing of a resource, once that of every other is complete too.
func (s *Source) listed(r *resource, rows map[mirror.Key]row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.synced, r.lost, r.err, r.listing, r.used = true, false, nil, rows, size{}
	for _, row := range rows {
		r.used = r.used.plus(row.size())
	}
	if !s.all(func(r *resource) bool { return r.synced && !r.lost }) {
		return
	}
	replace := func() (keys []mirror.Key) {
		for _, r := range s.resources {
			if r.listing != nil {
				keys = append(keys, s.inventory.replace(r.kind, r.listing)...)
				r.listing = nil
			}
		}
		return keys
	}
	if s.complete {
		s.observer.Update(upstream.Listed, replace)
		return
	}
	replace()
	s.complete = true
	if s.current() {
		s.observer.Complete()
	}
}

// worsened makes the next probe come soon. It is called with mu held.
func (s *Source) worsened() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// current reports whether the inventory is as the upstream was at the last word from
// it. It is called with mu held.
func (s *Source) current() bool {
	return s.all(func(r *resource) bool { return r.synced && !r.lost && r.err == nil })
}

func (s *Source) all(is func(*resource) bool) bool {
	return !slices.ContainsFunc(s.resources, func(r *resource) bool { return !is(r) })
}

// probe confirms the inventory time and again until ctx ends.
func (s *Source) probe(ctx context.Context) {
	last := time.Now()
	for {
		timer := time.NewTimer(time.Until(last.Add(s.interval())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
			last = time.Now()
			s.conclude(ctx, s.ask(ctx))
		}
	}
}

func (s *Source) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probed == nil && s.current() {
		return s.options.ProbeInterval
	}
	return min(probeAgain, s.options.ProbeInterval)
}

// ask probes all resources at the same time and returns the first failure in order of resource.
func (s *Source) ask(ctx context.Context) error {
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

// conclude reports what a probe found.
func (s *Source) conclude(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	s.probed = err
	for _, r := range s.resources {
		if err == nil {
			err = r.err
		}
	}
	if failure := new(upstream.Error); errors.As(err, &failure) {
		s.observer.Failed(failure)
	} else if s.current() {
		s.observer.Complete()
	}
}
