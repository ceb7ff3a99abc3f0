package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// limit is how long a test waits for what must come.
const limit = time.Minute

// startCloud serves a cloud of a size until the test ends.
func startCloud(t testing.TB, size openstacktest.Size, change ...func(*openstacktest.Cloud)) *openstacktest.Cloud {
	t.Helper()
	c := &openstacktest.Cloud{}
	for _, f := range change {
		f(c)
	}
	c.Change(func(s *openstacktest.State) { *s = openstacktest.Generate(size) })
	if err := c.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// small has a load balancer with two pools of two members in each of two projects.
var small = openstacktest.Size{Projects: 2, LoadBalancers: 1, Pools: 2, Members: 2}

// options are those of a Source that reads a cloud, with short times.
func options(t testing.TB, c *openstacktest.Cloud) Options {
	t.Helper()
	config, err := ParseClouds(c.CloudsYAML(), "", c.CA(), "gimbal/test", upstream.Allow{})
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Config:         config,
		Logger:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		PollInterval:   50 * time.Millisecond,
		ProbeInterval:  time.Hour,
		RequestTimeout: 2 * time.Second,
	}
}

// read makes a cycle of a Source and keeps what it finds.
func read(t testing.TB, s *Source) *inventory {
	t.Helper()
	found, err := s.cycle(t.Context(), s.inventory.Load())
	if err != nil {
		t.Fatal(err)
	}
	s.inventory.Store(found)
	return found
}

// fails makes a cycle that must fail, and returns why.
func fails(t testing.TB, s *Source) *upstream.Error {
	t.Helper()
	found, err := s.cycle(t.Context(), s.inventory.Load())
	if err == nil {
		t.Fatalf("complete, keys %v", found.keys())
	}
	return s.classify(err)
}

func lbKey(namespace string, n int) mirror.Key {
	return mirror.Key{Namespace: namespace, Name: "lb-" + openstacktest.ID("lb", n)}
}

// endpoints returns the addresses of a Service, and which of them aren't ready.
func endpoints(s *mirror.Service) (all, unready []string) {
	for _, es := range s.Slices {
		for _, e := range es.Endpoints {
			all = append(all, e.Addresses...)
			if !e.Ready {
				unready = append(unready, e.Addresses...)
			}
		}
	}
	return all, unready
}

// on makes a fault of one kind of request.
func on(kind string, f openstacktest.Fault) openstacktest.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return openstacktest.Kind(r) == kind && f(w, r)
	}
}

// says answers with a status and a body.
func says(status int, body string) openstacktest.Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// recorder is an Observer that keeps what it is told.
type recorder struct {
	mu   sync.Mutex
	more chan struct{} // closed at the next report
	reports
}

type reports struct {
	changed   []mirror.Key
	completed int
	cycles    []upstream.Cycle
	failures  []*upstream.Error
	last      string // "complete", or the reason of the failure
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

// seen returns what has been reported so far.
func (r *recorder) seen() reports {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

func (r *recorder) report(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.more)
	r.more = make(chan struct{})
}

func (r *recorder) Changed(keys ...mirror.Key) {
	r.report(func() { r.changed = append(r.changed, keys...) })
}

func (r *recorder) Relisted(keys ...mirror.Key) { r.Changed(keys...) }

func (r *recorder) Polled(c upstream.Cycle) { r.report(func() { r.cycles = append(r.cycles, c) }) }

func (r *recorder) Complete() { r.report(func() { r.completed++; r.last = "complete" }) }

func (r *recorder) Failed(err *upstream.Error) {
	r.report(func() { r.failures = append(r.failures, err); r.last = string(err.Reason) })
}

// wait returns when the condition holds, and fails the test when it doesn't in time.
func (r *recorder) wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	timeout := time.After(limit)
	for {
		r.mu.Lock()
		ok, more := is(), r.more
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-more:
		case <-timeout:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("no %s in %v; last: %s, changed %v, failures %v", what, limit, r.last, r.changed, r.failures)
		}
	}
}

// waitFor waits for a report of that name from now on.
func (r *recorder) waitFor(t *testing.T, last string) {
	t.Helper()
	r.mu.Lock()
	completed, failed := r.completed, len(r.failures)
	r.mu.Unlock()
	r.wait(t, last, func() bool {
		return r.last == last && (r.completed > completed || len(r.failures) > failed)
	})
}

// run runs a Source until the test ends.
func run(t *testing.T, o Options) (*Source, *recorder) {
	t.Helper()
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	r := newRecorder()
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
	return s, r
}

// text is a value as JSON, to compare and to show.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
