package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryv1client "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"
)

const (
	// maxResponse is the most bytes, decompressed, that the answer to a request may have.
	maxResponse = 64 << 20
	// maxProbe is that of the answer to a probe, which holds one object.
	maxProbe = 4 << 20
	// maxEvent is the most bytes that an event of a watch may have.
	maxEvent = 32 << 20
)

// errResponseTooLarge says that an answer has more bytes than it may.
var errResponseTooLarge = errors.New("the answer is too large")

// client talks to one upstream over connections of its own: client-go would share
// them, and thereby their fate, among all clients of equal TLS settings.
type client struct {
	core      corev1client.CoreV1Interface
	discovery discoveryv1client.DiscoveryV1Interface
	transport *http.Transport
}

func newClient(config *rest.Config) (*client, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("TLS of the upstream: %w", err)
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    5 * time.Second,
		DisableCompression:     config.DisableCompression,
		MaxResponseHeaderBytes: 1 << 20,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
		// A dead connection makes way for a new one within ten seconds.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, limited{t})
	if err != nil {
		return nil, fmt.Errorf("credentials of the upstream: %w", err)
	}
	h := &http.Client{
		Transport: wrapped,
		// A redirect would send the credentials to a server that the kubeconfig doesn't name.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	core, err := corev1client.NewForConfigAndClient(config, h)
	if err != nil {
		return nil, fmt.Errorf("client of the upstream: %w", err)
	}
	discovery, err := discoveryv1client.NewForConfigAndClient(config, h)
	if err != nil {
		return nil, fmt.Errorf("client of the upstream: %w", err)
	}
	return &client{core: core, discovery: discovery, transport: t}, nil
}

// allowance is how many bytes may still be read of an answer.
type allowance struct{ left atomic.Int64 }

func newAllowance(bytes int64) *allowance {
	a := new(allowance)
	a.left.Store(bytes)
	return a
}

type allowanceKey struct{}

// with makes a the allowance of requests made in the context, in place of maxResponse: that of
// a watch is renewed with every event. client-go itself reads an event of any size.
func (a *allowance) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, allowanceKey{}, a)
}

// limited fails the answer to a request when its allowance is used up.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a, ok := r.Context().Value(allowanceKey{}).(*allowance)
	if !ok {
		a = newAllowance(maxResponse)
	}
	res.Body = limitedBody{res.Body, a}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	allowance *allowance
}

func (b limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.allowance.left.Add(-int64(n)) < 0 {
		return 0, errResponseTooLarge
	}
	return n, err
}
