package kubernetes

import (
	"net/http"
	"path"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// An upstream that lists nothing any more has lost its Services and their slices at the
// same moment, whichever listing comes first: the guard of deletions sees to the rest.
func TestViewIsTakenInAsAWhole(t *testing.T) {
	for name, tc := range map[string]struct{ lost, late string }{
		"Services come late": {"endpointslices", "services"},
		"slices come late":   {"services", "endpointslices"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.put(newService("a"), newSlice("a-1", "a", "10.0.0.1"))
			o := f.options(t)
			o.StreamTimeout = upstreamtest.Limit
			s, r := run(t, o)
			r.WaitFor(t, upstreamtest.Complete)
			f.awaitWatch(t, tc.late)
			r.Reset()
			f.forget(newService("a"))
			f.forget(newSlice("a-1", "a"))
			release := make(chan struct{})
			var early, late, probes atomic.Int32
			f.inject(func(w http.ResponseWriter, r *http.Request) bool {
				switch resource := path.Base(r.URL.Path); {
				case isProbe(r):
					probes.Add(1)
				case isStream(r) && resource == tc.late:
					late.Add(1)
					return hang(release)(w, r)
				case isStream(r):
					early.Add(1)
				}
				return false
			})
			f.gone(t, tc.lost)
			deadline := time.Now().Add(upstreamtest.Limit)
			for seen := int32(0); early.Load() == 0 || late.Load() == 0 || probes.Load() < seen+8; runtime.Gosched() {
				if early.Load() == 0 || late.Load() == 0 {
					seen = probes.Load()
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d listings of %s, %d of the other resource, %d probes", late.Load(), tc.late, early.Load(), probes.Load())
				}
			}
			if a, ok := s.Service(key("a")); !ok || len(a.Slices) != 1 || len(r.Seen().Relisted)+len(r.Seen().Changed) > 0 {
				t.Errorf("half of a view was taken in: %+v, relisted %v, changed %v", a, r.Seen().Relisted, r.Seen().Changed)
			}
			close(release)
			r.Wait(t, "the other half", func(got upstreamtest.Reports) bool { return slices.Contains(got.Relisted, key("a")) })
			if keys := s.Keys(); len(keys) != 0 {
				t.Errorf("keys %v", keys)
			}
		})
	}
}

// An upstream that never finishes one listing can't have another grow without bound meanwhile.
func TestListingThatWaitsIsBounded(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"), newSlice("a-1", "a", "10.0.0.1"))
	o := f.options(t)
	o.StreamTimeout = upstreamtest.Limit
	o.Limits.Slices = 3
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	f.awaitWatch(t, "services")
	release := make(chan struct{})
	defer close(release)
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		return isStream(r) && path.Base(r.URL.Path) == "services" && hang(release)(w, r)
	})
	f.gone(t, "endpointslices")
	waits := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.resources, func(r *resource) bool { return r.kind == endpointSlices && r.listing != nil })
	}
	for deadline := time.Now().Add(upstreamtest.Limit); !waits(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the listing of slices didn't come to wait for that of Services")
		}
	}
	for _, name := range []string{"a-2", "a-3", "a-4", "a-5"} {
		f.put(newSlice(name, "a", "10.0.0.2"))
	}
	r.Wait(t, "too large", func(got upstreamtest.Reports) bool {
		return slices.ContainsFunc(got.Failures, func(e *upstream.Error) bool { return e.Reason == upstream.ReasonTooLarge })
	})
}

// A view that is whole but isn't confirmed yet is nothing to the observer: the engine reads all keys when it is.
func TestNoUpdateBeforeTheFirstComplete(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"), newSlice("a-1", "a", "10.0.0.1"))
	release := make(chan struct{})
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case path.Base(r.URL.Path) == "services":
			return isStream(r) && hang(release)(w, r)
		case isStream(r):
			return noStreams(w, r)
		case isWatch(r): // it fails after the listing
			status(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
			return true
		}
		return false
	})
	s, r := run(t, f.options(t))
	r.WaitFor(t, "ServerError")
	close(release)
	f.awaitWatch(t, "services")
	f.put(newService("b"))
	for deadline := time.Now().Add(upstreamtest.Limit); len(s.Keys()) < 2; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("keys %v", s.Keys())
		}
	}
	if got := r.Seen(); len(got.Changed)+len(got.Relisted)+got.Completed > 0 {
		t.Errorf("changed %v, relisted %v, complete %d times", got.Changed, got.Relisted, got.Completed)
	}
	f.inject(nil)
	r.WaitFor(t, upstreamtest.Complete)
	if keys := s.Keys(); len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
}
