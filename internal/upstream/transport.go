package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// MaxResponse is the most bytes, decompressed, that the answer to a request may have
// where no Allowance says otherwise.
const MaxResponse = 64 << 20

// ErrResponseTooLarge says that an answer has more bytes than it may.
var ErrResponseTooLarge = errors.New("the answer is too large")

// NewTransport returns connections for one upstream alone, so that none shares another's
// fate. Connecting is bounded in time, headers in size; nothing else is.
func NewTransport(c *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext,
		TLSClientConfig:        c,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
		// A dead connection makes way for a new one within ten seconds.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// NoRedirects is a CheckRedirect: a redirect would send the credentials to a server that
// they aren't for.
func NoRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Allowance is how many bytes may still be read of an answer.
type Allowance struct{ left atomic.Int64 }

// NewAllowance returns an Allowance of so many bytes.
func NewAllowance(bytes int64) *Allowance {
	a := new(Allowance)
	a.Renew(bytes)
	return a
}

// Renew makes it so many bytes from now on: that of a watch is renewed with every event.
func (a *Allowance) Renew(bytes int64) { a.left.Store(bytes) }

type allowanceKey struct{}

// With makes a the allowance of requests made in the context, in place of MaxResponse.
func (a *Allowance) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, allowanceKey{}, a)
}

// Limit makes a transport fail the answer to a request, with ErrResponseTooLarge, when its
// Allowance is used up.
func Limit(next http.RoundTripper) http.RoundTripper { return limited{next} }

type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a, ok := r.Context().Value(allowanceKey{}).(*Allowance)
	if !ok {
		a = NewAllowance(MaxResponse)
	}
	res.Body = limitedBody{res.Body, a}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	allowance *Allowance
}

func (b limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.allowance.left.Add(-int64(n)) < 0 {
		return 0, ErrResponseTooLarge
	}
	return n, err
}
