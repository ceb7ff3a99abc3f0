package kubernetes

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestLimited(t *testing.T) {
	l := limited{roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Body: io.NopCloser(io.LimitReader(zeros{}, 2*maxResponse))}, nil
	})}
	read := func(ctx context.Context) (int64, error) {
		res, err := l.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return io.Copy(io.Discard, res.Body)
	}
	if n, err := read(t.Context()); !errors.Is(err, errResponseTooLarge) || n > maxResponse {
		t.Errorf("read %d bytes of a list: %v", n, err)
	}
	if n, err := read(newAllowance(maxEvent).with(t.Context())); !errors.Is(err, errResponseTooLarge) || n > maxEvent {
		t.Errorf("read %d bytes of an event: %v", n, err)
	}
	if n, err := read(newAllowance(3 * maxResponse).with(t.Context())); err != nil || n != 2*maxResponse {
		t.Errorf("read %d bytes of a watch: %v", n, err)
	}
}

// An endless answer ends as TooLarge, through all of client-go.
func TestEndlessAnswer(t *testing.T) {
	f := newFake(t)
	f.inject(func(w http.ResponseWriter, r *http.Request) bool {
		if isProbe(r) || isWatch(r) {
			return noStreams(w, r)
		}
		w.Header().Set("Content-Type", "application/json")
		spaces := []byte(strings.Repeat(" ", 1<<20))
		for r.Context().Err() == nil {
			if _, err := w.Write(spaces); err != nil {
				break
			}
		}
		return true
	})
	o := f.options(t)
	o.RequestTimeout, o.StreamTimeout = limit, limit
	_, r := run(t, o)
	r.waitFor(t, "TooLarge")
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
