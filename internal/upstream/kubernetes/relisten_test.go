package kubernetes

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// relisten serves the fake again at the address where it was.
func relisten(t *testing.T, f *fake, address string) {
	t.Helper()
	var listener net.Listener
	for deadline := time.Now().Add(upstreamtest.Limit); ; {
		var err error
		if listener, err = net.Listen("tcp", address); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	server := &http.Server{Handler: f, TLSConfig: f.TLS.Clone(), ReadHeaderTimeout: upstreamtest.Limit}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { server.Close() })
}
