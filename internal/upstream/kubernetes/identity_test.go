package kubernetes

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// newAPIServer returns the Service by which a cluster is known.
func newAPIServer(uid types.UID) *corev1.Service {
	s := newService("kubernetes")
	s.Namespace = "default"
	s.UID = uid
	return s
}

// witness is an Observer that sees the identity before and after each change, and at each Complete.
type witness struct {
	source *Source
	seen   chan string
	mu     sync.Mutex
	keys   []mirror.Key
}

func (w *witness) Update(_ upstream.Urgency, change func() []mirror.Key) {
	before := w.source.Identity()
	keys := change()
	w.mu.Lock()
	w.keys = append(w.keys, keys...)
	w.mu.Unlock()
	w.seen <- before + ">" + w.source.Identity()
}

func (w *witness) Complete()              { w.seen <- w.source.Identity() }
func (w *witness) Polled(upstream.Cycle)  {}
func (w *witness) Failed(*upstream.Error) {}

func (w *witness) await(t *testing.T, what string) {
	t.Helper()
	var seen []string
	for timeout := time.After(upstreamtest.Limit); ; {
		select {
		case s := <-w.seen:
			if s == what {
				return
			}
			seen = append(seen, s)
		case <-timeout:
			t.Fatalf("no %q; seen: %q", what, slices.Compact(seen))
		}
	}
}

// An upstream is known by the UID of default/kubernetes, selected or not, which changes together with the inventory.
func TestIdentity(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{"streamed": nil, "in pages": noStreams} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.inject(fault)
			f.put(newAPIServer("one"), newSlice("a-1", "a", "10.0.0.1"), newService("a"))
			o := f.options(t)
			o.Selection = mirror.Selection{Exclude: []string{"default"}}
			o.Limits.Services = 1
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			w := &witness{source: s, seen: make(chan string, 10_000)}
			ctx, cancel := context.WithCancel(t.Context())
			var runs sync.WaitGroup
			runs.Go(func() { _ = s.Run(ctx, w) })
			defer runs.Wait()
			defer cancel()
			w.await(t, "one")
			f.awaitWatch(t, "services")
			f.put(newAPIServer("two"))
			w.await(t, "one>two")
			f.remove(newAPIServer("two"))
			w.await(t, "two>")
			f.put(newAPIServer("three"))
			w.await(t, ">three")
			f.forget(newAPIServer("three"))
			f.gone(t, "services")
			w.await(t, "three>")
			w.mu.Lock()
			defer w.mu.Unlock()
			if keys := s.Keys(); !slices.Equal(keys, []mirror.Key{key("a")}) || len(w.keys) > 0 {
				t.Errorf("keys %v, changed %v", keys, w.keys)
			}
			if got, ok := s.Service(apiServerKey); ok {
				t.Errorf("it is mirrored: %v", got)
			}
		})
	}
}

// A UID is the upstream's text.
func TestIdentityIsBounded(t *testing.T) {
	if got := identity("a b\n\x00c"); got != "a?b??c" {
		t.Errorf("%q", got)
	}
	if got := identity(types.UID(strings.Repeat("x", 1000))); len(got) != 128 {
		t.Errorf("%d bytes", len(got))
	}
}
