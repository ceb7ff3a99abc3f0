// Package bound ends what clients of the Kubernetes API do without a context.
package bound

import (
	"context"
	"io"
	"net/http"

	"k8s.io/client-go/rest"
)

// To returns a configuration whose clients' requests end with ctx, beside their own
// contexts. Discovery and REST mappers take no context: against a server that never
// answers they otherwise hold the program for more than half a minute.
func To(ctx context.Context, c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return roundTripper{ctx, next} })
	return c
}

type roundTripper struct {
	ctx  context.Context
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.ctx, cancel) //nolint:contextcheck // a request ends with the first of two contexts
	done := func() { stop(); cancel() }
	res, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		done()
		if t.ctx.Err() != nil {
			err = context.Cause(t.ctx) //nolint:contextcheck // as above
		}
		return nil, err
	}
	res.Body = body{res.Body, done}
	return res, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (t roundTripper) WrappedRoundTripper() http.RoundTripper { return t.next }

type body struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b body) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
