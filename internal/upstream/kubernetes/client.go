package kubernetes

import (
	"fmt"
	"net/http"

	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryv1client "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// maxObject is the most bytes of an answer that holds one object, which is the answer to
// a probe or an event of a watch. The API takes 3 MiB in a request, and etcd 1.5 MiB.
const maxObject = 32 << 20

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
	t := upstream.NewTransport(tlsConfig)
	t.DisableCompression = config.DisableCompression
	wrapped, err := rest.HTTPWrappersForConfig(config, upstream.Limit(t))
	if err != nil {
		return nil, fmt.Errorf("credentials of the upstream: %w", err)
	}
	h := &http.Client{Transport: wrapped, CheckRedirect: upstream.NoRedirects}
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
