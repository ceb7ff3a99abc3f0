package openstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	lbaas    = "https://host/load-balancer/v2.0/lbaas/"
	keystone = "https://host/identity/v3/auth/tokens"
)

func answered(at string, status int, body string) gophercloud.ErrUnexpectedResponseCode {
	return gophercloud.ErrUnexpectedResponseCode{URL: at, Method: "GET", Actual: status, Body: []byte(body)}
}

func TestClassify(t *testing.T) {
	wrap := func(err error) error { return &url.Error{Op: "Get", URL: lbaas + "pools?marker=" + canary, Err: err} }
	const octaviaSays = `{"faultcode":"Client","faultstring":"Policy does not allow this request to be performed.","debuginfo":null}`
	const keystoneSays = `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}`
	for name, tc := range map[string]struct {
		err    error
		reason upstream.Reason
		text   string // the message
		hint   string // a part of it
	}{
		"wrong password":           {answered(keystone, 401, keystoneSays), "Unauthorized", "Keystone answered 401 Unauthorized: The request you have made requires authentication", "clouds.yaml's Secret"},
		"password refused on 401":  {&gophercloud.ErrUnableToReauthenticate{ErrOriginal: answered(lbaas, 401, ""), ErrReauth: answered(keystone, 401, keystoneSays)}, "Unauthorized", "Keystone answered 401 Unauthorized: The request you have made requires authentication", "clouds.yaml's Secret"},
		"Keystone broken on 401":   {fmt.Errorf("x: %w", &gophercloud.ErrUnableToReauthenticate{ErrOriginal: answered(lbaas, 401, ""), ErrReauth: answered(keystone, 503, "")}), "ServerError", "Keystone answered 503 Service Unavailable", "logs"},
		"refused with a new token": {&gophercloud.ErrErrorAfterReauthentication{ErrOriginal: answered(lbaas, 401, keystoneSays)}, "Unauthorized", "Octavia answered 401 Unauthorized: The request you have made requires authentication", "clouds.yaml"},
		"secret in the answer":     {answered(keystone, 401, `{"error":{"message":"no user has `+canary+`"}}`), "Unauthorized", "Keystone answered 401 Unauthorized", "clouds.yaml"},
		"policy":                   {answered(lbaas+"loadbalancers", 403, octaviaSays), "Forbidden", "Octavia answered 403 Forbidden: Policy does not allow this request to be performed", "load-balancer_global_observer"},
		"own project only":         {errOwnProjectOnly, "Forbidden", errOwnProjectOnly.Error(), "load-balancer_global_observer"},
		"not found":                {answered(lbaas+"loadbalancers", 404, `{"code":404,"title":"Bad Request","description":"Pool x not found."}`), "ServerError", "Octavia answered 404 Not Found: Pool x not found", "auth_url"},
		"no such path":             {answered(lbaas+"loadbalancers", 404, `<html>`), "ServerError", "Octavia answered 404 Not Found", "auth_url"},
		"bad request":              {answered(lbaas+"pools", 400, `{"faultcode":"Client","faultstring":"One or more arguments are either duplicate or invalid"}`), "ServerError", "Octavia answered 400 Bad Request: One or more arguments are either duplicate or invalid", "logs"},
		"too many requests":        {answered(lbaas, 429, ""), "ServerError", "Octavia answered 429 Too Many Requests", "again"},
		"Keystone down":            {answered(lbaas, 503, "<html>"+canary), "ServerError", "Octavia answered 503 Service Unavailable", "can't reach Keystone"},
		"database down":            {answered(lbaas, 500, `{"faultcode":"Server","faultstring":"(pymysql.err.OperationalError) SELECT `+canary+`"}`), "ServerError", "Octavia answered 500 Internal Server Error", "logs"},
		"Neutron's database":       {answered("https://host/network/v2.0/floatingips?limit=1", 500, canary), "ServerError", "Neutron answered 500 Internal Server Error", "logs"},
		"Keystone's database":      {answered("https://host/identity/v3/", 500, canary), "ServerError", "Keystone answered 500 Internal Server Error", "logs"},
		"redirect":                 {answered(lbaas, 302, ""), "ServerError", "Octavia answered 302 Found", "redirects aren't followed"},
		"refused":                  {wrap(&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9876}, Err: syscall.ECONNREFUSED}), "Unreachable", "dial 192.0.2.1:9876: connection refused", "network"},
		"no such name":             {wrap(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "host", IsNotFound: true}}), "Unreachable", "lookup host: no such host", "DNS"},
		"no name server":           {wrap(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "read udp 10.0.0.1:41234->10.0.0.2:53: i/o timeout", Name: "host", IsTimeout: true}}), "Unreachable", "lookup host: no answer in time", "DNS"},
		"reset":                    {wrap(&net.OpError{Op: "read", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, Err: syscall.ECONNRESET}), "Unreachable", "read 192.0.2.1:1: connection reset by peer", "connection"},
		"timeout":                  {wrap(context.DeadlineExceeded), "Timeout", "no answer in time", "load"},
		"unknown authority":        {wrap(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), "UnknownAuthority", "tls: failed to verify certificate: x509: certificate signed by unknown authority", "caKey"},
		"expired":                  {wrap(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}), "InvalidCertificate", "", "renew"},
		"another name":             {wrap(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}), "InvalidCertificate", "", "host name"},
		"no TLS":                   {wrap(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), "ServerError", "", "TLS"},
		"client certificate":       {wrap(&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}), "Unauthorized", "", "handshake"},
		"no project":               {errNoProject, "Unauthorized", errNoProject.Error(), "project_name"},
		"no endpoint":              {&endpointError{message: "no endpoint"}, "ServerError", "no endpoint", "region_name"},
		"endpoint without TLS":     {checkURL("http://host", "the endpoint", false), "ServerError", "the endpoint without TLS is refused: use https", "--allow-insecure-upstreams"},
		"too large":                {&upstream.TooLarge{Limit: 3, What: "pools"}, "TooLarge", "the upstream has more than 3 pools", "spec.openstack.projects"},
		"too large an answer":      {fmt.Errorf("x: %w", upstream.ErrResponseTooLarge), "TooLarge", "x: the answer is too large", "objects"},
		"cut":                      {fmt.Errorf("reading the answer: %w", io.ErrUnexpectedEOF), "ServerError", "reading the answer: unexpected EOF", "logs"},
	} {
		t.Run(name, func(t *testing.T) {
			got := classify(tc.err, canary, "")
			if got.Reason != tc.reason || !strings.Contains(got.Hint, tc.hint) {
				t.Errorf("got %s (%s), want %s with %q", got.Reason, got, tc.reason, tc.hint)
			}
			if text := got.Err.Error(); tc.text != "" && text != tc.text || text == "" {
				t.Errorf("message %q", text)
			}
			if strings.Contains(got.Error(), canary) || strings.Contains(got.Error(), "SELECT") {
				t.Errorf("message %q tells too much", got)
			}
		})
	}
}

// A status repeats the message: it must not change from one attempt to the next.
func TestMessagesAreStable(t *testing.T) {
	attempt := func(path string, port int) string {
		from, to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: port}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9876}
		reset := &net.OpError{Op: "read", Net: "tcp", Source: from, Addr: to, Err: syscall.ECONNRESET}
		return classify(&url.Error{Op: "Get", URL: lbaas + path, Err: reset}).Error() + classify(answered(lbaas+path, 500, path)).Error()
	}
	if a, b := attempt("pools/a/members?limit=500", 1001), attempt("pools/b/members?limit=500&marker=x", 1002); a != b {
		t.Errorf("%s\n%s", a, b)
	}
	s := New(options(t, startCloud(t, small)))
	if a, b := s.members(&poolTree{pool: pool{ID: "a"}}, nil).name, s.members(&poolTree{pool: pool{ID: "b"}}, nil).name; a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	got := classify(answered(lbaas, 403, `{"faultstring":"\u001b[31m\n`+strings.Repeat("ü", 10_000)+`"}`)).Err.Error()
	if len(got) > 256+len("…") || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("message of %d bytes: %q", len(got), got)
	}
}

func TestRetry(t *testing.T) {
	for reason, want := range map[upstream.Reason][3]time.Duration{ // after one failure, three, and many
		upstream.ReasonServerError:      {1, 4, 30},
		upstream.ReasonForbidden:        {1, 4, 30},
		upstream.ReasonUnknownAuthority: {1, 4, 30},
		upstream.ReasonUnreachable:      {1, 4, 5},
		upstream.ReasonTimeout:          {1, 4, 5},
		upstream.ReasonUnauthorized:     {10, 40, 60}, // lest the user is locked out
		upstream.ReasonTooLarge:         {60, 60, 60},
	} {
		for i, failures := range []int{1, 3, 1000} {
			if got := retry(reason, failures, 30*time.Second); got != want[i]*time.Second {
				t.Errorf("%s after %d: %v", reason, failures, got)
			}
		}
	}
}
