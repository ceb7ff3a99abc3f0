package openstack

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

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

// unsettled reports whether a load balancer was in the middle of a change.
func unsettled(found *inventory) bool {
	_, unsettled := found.followUp()
	return unsettled
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

// run runs a Source until the test ends.
func run(t *testing.T, o Options) (*Source, *upstreamtest.Recorder) {
	t.Helper()
	s := New(o)
	return s, upstreamtest.Run(t, s)
}

// text is a value as JSON, to compare and to show.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
