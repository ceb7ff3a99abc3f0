package script

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// proxy stands before a real API server and can make it fail as such servers, and
// what lies before them, do.
type proxy struct {
	before *Cluster
	server *httptest.Server

	mu    sync.Mutex
	fault string
	what  string
	// lost are the resources of which a watch is still to be told that its place is lost.
	lost map[string]bool
	// released ends requests that hang.
	released chan struct{}
}

// faults are what a proxy can do, and what that is.
var faults = map[string]string{
	"none":         "answers as the API server does",
	"pages-only":   "streaming lists are refused, as by servers that don't have them",
	"page-2":       "streaming lists are refused, and the second page of a listing is a 500",
	"no-bookmark":  "the bookmark that ends a streaming list is dropped",
	"forbidden":    "403 for one resource",
	"unauthorized": "401",
	"empty":        "every listing is empty",
	"hang":         "nothing is answered, and connections stay open",
}

// startProxy starts a proxy before a cluster; its name then stands for a cluster.
func startProxy(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("proxy NAME CLUSTER")
	}
	c, err := s.cluster(args[1])
	if err != nil {
		return "", err
	}
	p, err := newProxy(c)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	s.proxies[args[0]] = p
	s.mu.Unlock()
	s.atEnd(func(testscript.T) { p.close() })
	return "", nil
}

// setFault has a proxy fail in one way from now on. Watches that are open end and are
// told that they lost their place, so that clients list anew; those of a proxy that hangs stay.
func setFault(s *story, args []string) (string, error) {
	if len(args) < 2 || len(args) > 3 {
		return "", usage("fault PROXY FAULT [RESOURCE]")
	}
	s.mu.Lock()
	p := s.proxies[args[0]]
	s.mu.Unlock()
	if p == nil {
		return "", fmt.Errorf("there is no proxy %q", args[0])
	}
	if faults[args[1]] == "" {
		return "", fmt.Errorf("there is no fault %q", args[1])
	}
	p.set(append(args[1:], "")[:2])
	return "", nil
}

func newProxy(c *Cluster) (*proxy, error) {
	target, err := url.Parse(c.config.Host)
	if err != nil {
		return nil, err
	}
	// The client's own credentials pass; only the server's certificate is the administrator's affair.
	trust, err := rest.TLSConfigFor(rest.AnonymousClientConfig(c.config))
	if err != nil {
		return nil, err
	}
	p := &proxy{before: c, fault: "none", lost: map[string]bool{}, released: make(chan struct{})}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Accept-Encoding", "identity") // events are read here, too
		},
		Transport:      &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true},
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0), // it fails on purpose
		ModifyResponse: p.modify,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) }))
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = forward.ErrorLog
	p.server.StartTLS()
	return p, nil
}

// at returns the proxy's address and certificate authority.
func (p *proxy) at() *clientcmdapi.Cluster {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	return &clientcmdapi.Cluster{Server: p.server.URL, CertificateAuthorityData: ca}
}

func (p *proxy) close() {
	p.set([]string{"none", ""})
	p.server.CloseClientConnections()
	p.server.Close()
}

func (p *proxy) set(fault []string) {
	p.mu.Lock()
	p.fault, p.what = fault[0], fault[1]
	p.lost = map[string]bool{"services": true, "endpointslices": true, "nodes": true}
	if p.fault != "hang" {
		close(p.released)
		p.released = make(chan struct{})
	}
	p.mu.Unlock()
	if p.fault != "hang" {
		p.server.CloseClientConnections()
	}
}

// state returns the fault in force, and what ends it.
func (p *proxy) state() (fault, what string, released chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.what, p.released
}

// loses says, once, whether a resource's watch has to be told that its place is lost.
func (p *proxy) loses(resource string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.lost[resource]
	delete(p.lost, resource)
	return was
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	fault, what, released := p.state()
	query := r.URL.Query()
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	watch, streaming := query.Get("watch") == "true", query.Get("sendInitialEvents") == "true"
	switch {
	case fault == "hang":
		select {
		case <-released:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case fault == "unauthorized":
		refuse(w, http.StatusUnauthorized, "Unauthorized", "the proxy doesn't know you")
	case fault == "forbidden" && resource == what:
		refuse(w, http.StatusForbidden, "Forbidden", resource+" is forbidden")
	case streaming && (fault == "pages-only" || fault == "page-2"):
		refuse(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	case query.Get("continue") != "" && fault == "page-2":
		refuse(w, http.StatusInternalServerError, "InternalError", "etcdserver: request timed out")
	case watch && !streaming && p.loses(resource):
		refuse(w, http.StatusGone, "Expired", "too old resource version")
	default:
		if fault == "empty" {
			query.Set("labelSelector", "nothing=has-this-label")
			r.URL.RawQuery = query.Encode()
		}
		forward.ServeHTTP(w, r)
	}
}

// refuse answers as an API server does.
func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, message, code)
}

// modify makes the answer to a watch stall while the proxy hangs, and drops the
// bookmark where that is the fault.
func (p *proxy) modify(res *http.Response) error {
	if res.Request.URL.Query().Get("watch") == "true" && res.StatusCode == http.StatusOK {
		res.Body = &events{ReadCloser: res.Body, proxy: p, framed: !strings.Contains(res.Header.Get("Content-Type"), "json")}
	}
	return nil
}

// events is the body of a watch, read event by event.
type events struct {
	io.ReadCloser
	proxy  *proxy
	framed bool // as protobuf, each event preceded by its length; JSON has one a line
	ready  []byte
}

// initialEventsEnd is the annotation of the bookmark that ends a streaming list.
const initialEventsEnd = "k8s.io/initial-events-end"

func (e *events) Read(b []byte) (int, error) {
	for len(e.ready) == 0 {
		event, err := e.next()
		if err != nil {
			return 0, err
		}
		fault, _, released := e.proxy.state()
		switch {
		case fault == "hang":
			<-released
			return 0, io.ErrUnexpectedEOF
		case fault == "no-bookmark" && bytes.Contains(event, []byte(initialEventsEnd)):
		default:
			e.ready = event
		}
	}
	n := copy(b, e.ready)
	e.ready = e.ready[n:]
	return n, nil
}

// next reads one event.
func (e *events) next() ([]byte, error) {
	if !e.framed {
		var line []byte
		for one := make([]byte, 1); ; {
			if _, err := io.ReadFull(e.ReadCloser, one); err != nil {
				return nil, err
			}
			if line = append(line, one[0]); one[0] == '\n' {
				return line, nil
			}
		}
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(e.ReadCloser, head); err != nil {
		return nil, err
	}
	event := make([]byte, 4+binary.BigEndian.Uint32(head))
	copy(event, head)
	_, err := io.ReadFull(e.ReadCloser, event[4:])
	return event, err
}
