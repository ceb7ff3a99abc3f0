package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func TestFirstListing(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"streamed": nil, "in pages": noStreams,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.inject(fault)
			f.pageSize = 1
			f.put(newService("a"), newService("b"), newSlice("a-1", "a", "10.0.0.1"), newSlice("a-2", "a", "10.0.0.2"))
			s, r := run(t, f.options(t))
			r.WaitFor(t, upstreamtest.Complete)
			if want := []mirror.Key{key("a"), key("b")}; !slices.Equal(s.Keys(), want) {
				t.Errorf("keys %v", s.Keys())
			}
			a, ok := s.Service(key("a"))
			if !ok || len(a.Slices) != 2 || a.Slices[1].Endpoints[0].Addresses[0] != "10.0.0.2" {
				t.Errorf("a is %+v", a)
			}
			if len(r.Seen().Changed)+len(r.Seen().Relisted)+len(r.Seen().Failures) > 0 {
				t.Errorf("changed %v, relisted %v, failures %v", r.Seen().Changed, r.Seen().Relisted, r.Seen().Failures)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"), newService("b"), newSlice("s", "a", "10.0.0.1"))
	f.put(newService("mark"), newService("slice-mark"), newSlice("mark", "slice-mark", "10.0.1.0"))
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	r.Reset()
	steps := 0
	step := func(what string, do func(), want ...string) {
		t.Helper()
		changed := len(r.Seen().Changed)
		do()
		// Each watch is in order, the two of them aren't: a mark ends the step on both.
		steps++
		mark := newService("mark")
		mark.Labels = map[string]string{"step": strconv.Itoa(steps)}
		f.put(mark, newSlice("mark", "slice-mark", fmt.Sprintf("10.0.1.%d", steps)))
		want = append(want, "mark", "slice-mark")
		r.Wait(t, what, func(got upstreamtest.Reports) bool {
			return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(got.Changed[changed:], key(w)) })
		})
		for _, k := range r.Seen().Changed[changed:] {
			if !slices.Contains(want, k.Name) {
				t.Errorf("%s changed %v", what, k)
			}
		}
	}
	step("a port", func() {
		a := newService("a")
		a.Spec.Ports[0].Port = 81
		f.put(a)
	}, "a")
	step("nothing but the metadata", func() {
		a := newService("a")
		a.Spec.Ports[0].Port = 81
		a.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
		a.Annotations = map[string]string{"x": "y"}
		f.put(a)
	})
	step("a slice's Service", func() { f.put(newSlice("s", "b", "10.0.0.1")) }, "a", "b")
	step("a slice of no Service", func() { f.put(newSlice("early", "c", "10.0.0.9")) })
	step("its Service", func() { f.put(newService("c")) }, "c")
	if c, _ := s.Service(key("c")); len(c.Slices) != 1 {
		t.Errorf("c is %+v", c)
	}
	step("a slice gone", func() { f.remove(newSlice("s", "b")) }, "b")
	step("a Service gone", func() { f.remove(newService("b")) }, "b")
	if _, ok := s.Service(key("b")); ok {
		t.Error("b is still there")
	}
}

func TestSelectionLeavesAndComes(t *testing.T) {
	f := newFake(t)
	o := f.options(t)
	o.Selection = mirror.Selection{Exclude: []string{"other"}}
	other := newService("a")
	other.Namespace = "other"
	f.put(newService("a"), other)
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	if got := s.Keys(); !slices.Equal(got, []mirror.Key{key("a")}) {
		t.Fatalf("keys %v", got)
	}
	mirrored := newService("a")
	mirrored.Labels = map[string]string{mirror.LabelBackend: "x"}
	f.put(mirrored)
	r.Wait(t, "change", func(got upstreamtest.Reports) bool { return slices.Contains(got.Changed, key("a")) })
	if got := s.Keys(); len(got) > 0 {
		t.Errorf("keys %v of Gimbal's own", got)
	}
}

// A proxy that drops bookmarks would keep client-go waiting for ever.
func TestBookmarkDropped(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"), newSlice("s", "a", "10.0.0.1"))
	var streams atomic.Int32
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if isStream(r) && path.Base(r.URL.Path) == "services" {
			streams.Add(1)
			send(w, r, nil)
			return true
		}
		return false
	})
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	if len(s.Keys()) != 1 {
		t.Errorf("keys %v", s.Keys())
	}
	f.gone(t, "services")
	r.WaitFor(t, upstreamtest.Complete)
	f.put(newService("b"))
	r.Wait(t, "b", func(got upstreamtest.Reports) bool {
		return slices.Contains(slices.Concat(got.Changed, got.Relisted), key("b"))
	})
	if n := streams.Load(); n != 1 {
		t.Errorf("%d streaming lists, want 1", n)
	}
}

// Changes that go on and on are no progress of a streaming list, nor are new objects.
func TestBookmarkDroppedAmidChanges(t *testing.T) {
	for _, typ := range []string{"MODIFIED", "ADDED"} {
		t.Run(typ, func(t *testing.T) {
			f := newFake(t)
			f.put(newService("a"))
			a := f.objects["services"][key("a").String()]
			f.streams("services", func(ctx context.Context, events chan<- event) {
				for tick := time.Tick(50 * time.Millisecond); ctx.Err() == nil; {
					<-tick
					give(ctx, events, event{typ, a})
				}
			})
			s, r := run(t, f.options(t))
			r.WaitFor(t, upstreamtest.Complete)
			if len(s.Keys()) != 1 {
				t.Errorf("keys %v", s.Keys())
			}
		})
	}
}

// A streaming list may take long, if objects come as fast as in pages.
func TestLongStreamingList(t *testing.T) {
	f := newFake(t)
	streams := f.streams("services", func(ctx context.Context, events chan<- event) {
		for i := range 4 * pageSize {
			if i%pageSize == pageSize-1 {
				<-time.After(1200 * time.Millisecond)
			}
			give(ctx, events, event{"ADDED", newService(fmt.Sprint("s", i))})
		}
		give(ctx, events, f.bookmark("services"))
		<-ctx.Done()
	})
	o := f.options(t)
	o.StreamTimeout = 4 * time.Second
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	if n := streams.Load(); n != 1 || len(s.Keys()) != 4*pageSize {
		t.Errorf("%d keys by %d streaming lists", len(s.Keys()), n)
	}
}

// A listing that fails half way deletes nothing, and fails for as long as it fails,
// though every probe succeeds.
func TestSecondPageFails(t *testing.T) {
	f := newFake(t)
	f.pageSize = 1
	f.inject(noStreams)
	f.put(newService("a"), newService("b"), newService("c"))
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	r.Reset()
	var probes atomic.Int32
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if isProbe(r) {
			probes.Add(1)
		}
		if r.URL.Query().Has("continue") {
			status(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
			return true
		}
		return noStreams(w, r)
	})
	f.gone(t, "services")
	r.WaitFor(t, "ServerError")
	completed := r.Seen().Completed
	probes.Store(0)
	r.Wait(t, "four probes", func(upstreamtest.Reports) bool { return probes.Load() > 8 })
	if r.Seen().Completed != completed {
		t.Error("complete while the second page fails")
	}
	if got := s.Keys(); len(got) != 3 || len(r.Seen().Relisted) > 0 {
		t.Errorf("keys %v, relisted %v", got, r.Seen().Relisted)
	}
	f.forget(newService("b"))
	f.inject(noStreams)
	r.WaitFor(t, upstreamtest.Complete)
	if got := s.Keys(); len(got) != 2 || !slices.Equal(r.Seen().Relisted, []mirror.Key{key("b")}) {
		t.Errorf("keys %v, relisted %v", got, r.Seen().Relisted)
	}
}

// A watch that has lost its place leaves the inventory unconfirmed until it has been
// listed again, however long that takes and though every probe succeeds.
func TestListingUnderWay(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"))
	o := f.options(t)
	o.StreamTimeout = upstreamtest.Limit
	_, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	release := make(chan struct{})
	listing := make(chan struct{}, 1)
	var probes atomic.Int32
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if isProbe(r) {
			probes.Add(1)
		} else if isStream(r) {
			listing <- struct{}{}
			return hang(release)(w, r)
		}
		return false
	})
	f.gone(t, "services")
	<-listing
	// A probe that was under way may still confirm what went before; none after it may.
	for seen := probes.Load(); probes.Load() < seen+4; {
		runtime.Gosched()
	}
	completed := r.Seen().Completed
	for seen := probes.Load(); probes.Load() < seen+4; {
		runtime.Gosched()
	}
	if r.Seen().Completed != completed {
		t.Error("complete while the listing is under way")
	}
	close(release)
	r.WaitFor(t, upstreamtest.Complete)
}

func TestHanging(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"))
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	release := make(chan struct{})
	f.inject(hang(release))
	r.WaitFor(t, "Timeout")
	if len(s.Keys()) != 1 {
		t.Errorf("keys %v", s.Keys())
	}
	f.inject(nil)
	close(release)
	r.WaitFor(t, upstreamtest.Complete)
}

// A watch goes on after the rights that started it have ended.
func TestRightsEnd(t *testing.T) {
	for want, code := range map[string]int{"Unauthorized": http.StatusUnauthorized, "Forbidden": http.StatusForbidden} {
		t.Run(want, func(t *testing.T) {
			f := newFake(t)
			f.put(newService("a"))
			s, r := run(t, f.options(t))
			r.WaitFor(t, upstreamtest.Complete)
			f.inject(func(w http.ResponseWriter, _ *http.Request) bool {
				status(w, code, metav1.StatusReason(want))
				return true
			})
			r.WaitFor(t, want)
			if hint := r.Seen().Failures[0].Hint; hint == "" || len(s.Keys()) != 1 {
				t.Errorf("hint %q, keys %v", hint, s.Keys())
			}
			f.inject(nil)
			r.WaitFor(t, upstreamtest.Complete)
		})
	}
}

// client-go takes an answer of another kind for an empty list.
func TestWrongContent(t *testing.T) {
	for name, body := range map[string]string{
		"page":    "<html>please log in</html>",
		"object":  `{"kind":"Status","apiVersion":"v1","status":"Success"}`,
		"kind":    `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"x"}}]}`,
		"nothing": `{}`,
		"loop":    `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"x"},"items":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.put(newService("a"))
			s, r := run(t, f.options(t))
			r.WaitFor(t, upstreamtest.Complete)
			r.Reset()
			f.inject(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, body)
				return true
			})
			f.gone(t, "services")
			r.Wait(t, "failed listing", func(got upstreamtest.Reports) bool { return len(got.Failures) > 5 })
			if len(s.Keys()) != 1 || len(r.Seen().Relisted) > 0 || r.Seen().Last != "ServerError" {
				t.Errorf("keys %v, relisted %v, last %s", s.Keys(), r.Seen().Relisted, r.Seen().Last)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"), newService("b"))
	o := f.options(t)
	o.Limits.Services = 2
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	f.put(newService("c"))
	r.WaitFor(t, "TooLarge")
	if got := s.Keys(); !slices.Equal(got, []mirror.Key{key("a"), key("b")}) {
		t.Errorf("keys %v", got)
	}
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{"streamed": nil, "in pages": noStreams} {
		t.Run(name, func(t *testing.T) {
			f.inject(fault)
			s, r := run(t, o)
			r.WaitFor(t, "TooLarge")
			if len(s.Keys()) > 0 || r.Seen().Completed > 0 {
				t.Errorf("keys %v, complete %d times", s.Keys(), r.Seen().Completed)
			}
		})
	}
}

func TestServerGoneAndBack(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"))
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	r.Reset()
	address := f.Listener.Addr().String()
	f.Listener.Close()
	f.CloseClientConnections()
	r.WaitFor(t, "Unreachable")
	if len(s.Keys()) != 1 {
		t.Errorf("keys %v", s.Keys())
	}
	relisten(t, f, address)
	r.WaitFor(t, upstreamtest.Complete)
	if len(r.Seen().Changed)+len(r.Seen().Relisted) > 0 {
		t.Errorf("changed %v, relisted %v in an unchanged world", r.Seen().Changed, r.Seen().Relisted)
	}
}

func TestConcurrentReaders(t *testing.T) {
	f := newFake(t)
	f.put(newService("a"))
	s, r := run(t, f.options(t))
	r.WaitFor(t, upstreamtest.Complete)
	stop := upstreamtest.Read(s)
	for i := range 300 {
		f.put(newSlice(fmt.Sprint("s", i%30), "a", fmt.Sprint("10.0.0.", i%250)))
	}
	f.gone(t, "endpointslices")
	f.put(newService("z"))
	r.Wait(t, "z", func(got upstreamtest.Reports) bool {
		return slices.Contains(slices.Concat(got.Changed, got.Relisted), key("z"))
	})
	stop()
}
