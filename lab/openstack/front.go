package openstack

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// front is what a service's users reach: a TLS server that hands on all it is asked.
type front struct{ server *http.Server }

// openFront opens a service's front unless it is open.
func (o *OpenStack) openFront(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.fronts[name]; ok {
		return nil
	}
	cert, key, err := o.ca.Server(name, o.opts.Address.String())
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", name, err)
	}
	address := o.address(map[string]int{Keystone: o.opts.KeystonePort, Octavia: o.opts.OctaviaPort, Neutron: o.neutronPort}[name])
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for %s of %s: %w", name, o.opts.Name, err)
	}
	silent := log.New(io.Discard, "", 0)
	f := &front{server: &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent,
		Handler: o.failing(&httputil.ReverseProxy{
			Transport: unixTransport(o.socket(name)), ErrorLog: silent,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: name})
				r.Out.Host = r.In.Host
			},
		}),
	}}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	go func() { _ = f.server.Serve(tls.NewListener(l, config)) }()
	o.fronts[name] = f
	return nil
}

// Fail has requests answered with the status that with returns, in the services'
// place, where that isn't 0: for faults that they can't be made to show. nil heals.
func (o *OpenStack) Fail(with func(*http.Request) int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = with
}

func (o *OpenStack) failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		fail := o.fail
		o.mu.Unlock()
		if fail != nil {
			if status := fail(r); status != 0 {
				http.Error(w, http.StatusText(status), status)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// close ends the front's connections too.
func (f *front) close() { _ = f.server.Close() }

// unixTransport connects to the socket at path whatever it is asked for. It keeps no
// connections: each request sees the service as it is now.
func unixTransport(path string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}
}
