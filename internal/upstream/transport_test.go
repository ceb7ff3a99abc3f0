package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestLimited(t *testing.T) {
	l := Limit(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Body: io.NopCloser(io.LimitReader(zeros{}, 2*MaxResponse))}, nil
	}))
	read := func(ctx context.Context) (int64, error) {
		res, err := l.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return io.Copy(io.Discard, res.Body)
	}
	if n, err := read(t.Context()); !errors.Is(err, ErrResponseTooLarge) || n > MaxResponse {
		t.Errorf("read %d bytes of a list: %v", n, err)
	}
	if n, err := read(NewAllowance(32 << 20).With(t.Context())); !errors.Is(err, ErrResponseTooLarge) || n > 32<<20 {
		t.Errorf("read %d bytes of an event: %v", n, err)
	}
	if n, err := read(NewAllowance(3 * MaxResponse).With(t.Context())); err != nil || n != 2*MaxResponse {
		t.Errorf("read %d bytes of a watch: %v", n, err)
	}
}
