// Package openstacktest is a Keystone, an Octavia and a Neutron in one process, for what
// the real ones can't be made to show: faults at a chosen moment, torn answers, and clouds
// of a size that a test machine can't hold. It stands beside the real servers, which the
// stories run, and not in their place: its answers are shaped as those of Keystone 30,
// Octavia 19 and Neutron 29 are, with all their fields, and follow their rules of paging and of rights.
//
// It is no product code.
package openstacktest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Password is the user's, and the secret of the user's application credential.
const Password = "s3cret-of-the-user"

// Fault answers a request in the cloud's place where it returns true.
type Fault func(http.ResponseWriter, *http.Request) bool

// Cloud serves a State. Its exported fields are set before Start.
type Cloud struct {
	// Neutron says that the catalog has a network endpoint.
	Neutron bool
	// PageLimit is the most objects of an answer of Octavia and Neutron; 1000 where zero, as pagination_max_limit is.
	PageLimit int
	// Delay is how long every answer takes.
	Delay time.Duration
	// Recorded says that answers are made once and then repeated, until the state is
	// changed: what is measured is the client.
	Recorded bool
	// TokenLife is how long a token is valid; an hour where zero.
	TokenLife time.Duration

	ca       []byte
	ahead    atomic.Int64 // of the clock, in nanoseconds
	address  string
	server   *http.Server
	listener net.Listener

	mu       sync.Mutex
	state    State
	fault    Fault
	tokens   map[string]time.Time // when each expires
	requests map[string]int
	answers  map[string]*httptest.ResponseRecorder // that are repeated, by URL
}

// Start serves at an address such as 127.0.0.1:0, with a certificate for its host.
func (c *Cloud) Start(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	pair, ca, err := certificate(host)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	c.ca, c.address = ca, listener.Addr().String()
	c.tokens, c.requests, c.answers = map[string]time.Time{}, map[string]int{}, map[string]*httptest.ResponseRecorder{}
	c.serve(listener, pair)
	return nil
}

func (c *Cloud) serve(listener net.Listener, pair tls.Certificate) {
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	server := &http.Server{Handler: c, TLSConfig: config, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	c.mu.Lock()
	c.server, c.listener = server, listener
	c.mu.Unlock()
	go func() { _ = server.ServeTLS(listener, "", "") }()
}

// Close ends the cloud and all its connections.
func (c *Cloud) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server.Close()
}

// Restart serves again, after Close, at the address where it was.
func (c *Cloud) Restart() error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.address)
	if err != nil {
		return err
	}
	c.serve(listener, c.server.TLSConfig.Certificates[0])
	return nil
}

// CA is the certificate that signed the cloud's, in PEM.
func (c *Cloud) CA() []byte { return c.ca }

// URL is the one that all of the cloud's URLs begin with.
func (c *Cloud) URL() string { return "https://" + c.address }

// CloudsYAML is a clouds.yaml of one cloud with the user's password.
func (c *Cloud) CloudsYAML() []byte {
	home := c.home()
	return fmt.Appendf(nil, `clouds:
  test:
    region_name: %s
    auth: {auth_url: "%s/identity/v3", username: gimbal, user_domain_id: default, password: %s, project_id: %s}
`, region, c.URL(), Password, home.ID)
}

// Change changes the state. What the function keeps of it must not be used afterwards.
func (c *Cloud) Change(f func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.answers)
	f(&c.state)
}

// Inject sets the fault; nil heals.
func (c *Cloud) Inject(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Advance moves the cloud's clock.
func (c *Cloud) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// Now is what the cloud's clock shows.
func (c *Cloud) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())).UTC() }

// RevokeTokens makes all tokens invalid.
func (c *Cloud) RevokeTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// Requests returns how often each kind of request came since the last call: "POST
// auth/tokens", "auth/projects", "identity", "loadbalancers", "loadbalancers?limit=1",
// "loadbalancers?project_id", "loadbalancers/{id}", "listeners", "pools", "members", "floatingips", "ports".
func (c *Cloud) Requests() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counted := maps.Clone(c.requests)
	clear(c.requests)
	return counted
}

// Kind is the kind of a request, as Requests names it.
func Kind(r *http.Request) string {
	q := r.URL.Query()
	path, octavia := strings.CutPrefix(r.URL.Path, "/load-balancer/v2.0/lbaas/")
	_, id, deeper := strings.Cut(path, "/")
	switch {
	case r.Method == http.MethodPost:
		return "POST auth/tokens"
	case strings.HasSuffix(r.URL.Path, "/auth/projects"):
		return "auth/projects"
	case strings.HasPrefix(r.URL.Path, "/network/v2.0/"):
		return strings.TrimPrefix(r.URL.Path, "/network/v2.0/")
	case !octavia:
		return "identity"
	case strings.HasSuffix(id, "/members"):
		return "members"
	case deeper:
		return "loadbalancers/{id}"
	case q.Has("project_id"):
		return path + "?project_id"
	case q.Get("limit") == "1" && !q.Has("marker"):
		return path + "?limit=1"
	}
	return path
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	fault := c.fault
	c.requests[Kind(r)]++
	w.Header().Set("Date", c.Now().Format(http.TimeFormat))
	c.mu.Unlock()
	if c.Delay > 0 {
		select {
		case <-time.After(c.Delay):
		case <-r.Context().Done():
			return
		}
	}
	if fault != nil && fault(w, r) {
		return
	}
	if c.Recorded && r.Method == http.MethodGet {
		c.repeat(w, r)
		return
	}
	c.Answer(w, r)
}

// repeat answers as the same request was answered before.
func (c *Cloud) repeat(w http.ResponseWriter, r *http.Request) {
	url := r.URL.String()
	c.mu.Lock()
	recorded := c.answers[url]
	c.mu.Unlock()
	if recorded == nil {
		recorded = httptest.NewRecorder()
		c.Answer(recorded, r)
		c.mu.Lock()
		c.answers[url] = recorded
		c.mu.Unlock()
	}
	maps.Copy(w.Header(), recorded.Header())
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(recorded.Body.Bytes())
}

// Answer answers a request without regard to the fault.
func (c *Cloud) Answer(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path, ok := strings.CutPrefix(r.URL.Path, "/identity"); ok {
		c.keystone(w, r, strings.TrimSuffix(path, "/"))
		return
	}
	if r.URL.Path == "/load-balancer/" {
		c.versions(w)
		return
	}
	if expires, ok := c.tokens[r.Header.Get("X-Auth-Token")]; !ok || !c.Now().Before(expires) {
		unauthorized(w)
		return
	}
	if path, ok := strings.CutPrefix(r.URL.Path, "/load-balancer/v2.0/lbaas/"); ok {
		c.octavia(w, r, path)
		return
	}
	if path, ok := strings.CutPrefix(r.URL.Path, "/network/v2.0/"); ok && c.Neutron {
		c.neutron(w, r, path)
		return
	}
	http.NotFound(w, r)
}

// home is the project of the user's credential: the first one.
func (c *Cloud) home() Project {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.home()
}

// Unanswered is a Fault that answers nothing until the client goes away or release is closed.
func Unanswered(release <-chan struct{}) Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return true
	}
}

// errNoAddress says that a certificate can't be for a host that is no IP address.
var errNoAddress = errors.New("the host of the address isn't an IP address")
