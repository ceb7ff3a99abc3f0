package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryv1client "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"
)

// maxResponse is the most bytes, decompressed, that the answer to a request may have; a watch has no such limit.
const maxResponse = 64 << 20

// errResponseTooLarge says that an answer has more than maxResponse bytes.
var errResponseTooLarge = fmt.Errorf("the answer has more than %d bytes", maxResponse)

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

// limited fails the answer to a request when it grows past maxResponse.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(r)
	if err != nil || r.URL.Query().Get("watch") == "true" {
		return res, err
	}
	res.Body = &limitedBody{ReadCloser: res.Body, left: maxResponse}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errors.Join(errResponseTooLarge, b.Close())
	}
	return n, err
}
