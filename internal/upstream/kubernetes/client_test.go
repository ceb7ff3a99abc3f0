package kubernetes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// An endless answer ends as TooLarge, through all of client-go.
func TestEndlessAnswer(t *testing.T) {
	f := newFake(t)
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if isProbe(r) || isWatch(r) {
			return noStreams(w, r)
		}
		return endless(w, r)
	})
	o := f.options(t)
	o.RequestTimeout, o.StreamTimeout = upstreamtest.Limit, upstreamtest.Limit
	o.maxPage = 2 << 20
	_, r := run(t, o)
	r.WaitFor(t, "TooLarge")
}

// endless answers with spaces until the client goes away.
func endless(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "application/json")
	spaces := []byte(strings.Repeat(" ", 1<<20))
	for r.Context().Err() == nil {
		if _, err := w.Write(spaces); err != nil {
			break
		}
	}
	return true
}

// Slices may have a thousand endpoints: 500 of them needn't fit into one answer.
func TestLargeObjects(t *testing.T) {
	f := newFake(t)
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if limit, _ := strconv.Atoi(r.URL.Query().Get("limit")); limit > 50 {
			return endless(w, r)
		}
		return noStreams(w, r)
	})
	for i := range 120 {
		f.put(newService(fmt.Sprint("s", i)))
	}
	o := f.options(t)
	o.RequestTimeout, o.StreamTimeout = upstreamtest.Limit, upstreamtest.Limit
	o.maxPage = 2 << 20
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	if keys, failures := s.Keys(), r.Seen().Failures; len(keys) != 120 || len(failures) > 0 {
		t.Errorf("%d keys, failures %v", len(keys), failures)
	}
}

// A redirect would send the token elsewhere.
func TestRedirectIsNotFollowed(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	f := newFake(t)
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		return true
	})
	c, err := newClient(f.options(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.core.Services("").List(t.Context(), metav1.ListOptions{Limit: 1}); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if asked.Load() > 0 {
		t.Error("the redirect was followed")
	}
}
