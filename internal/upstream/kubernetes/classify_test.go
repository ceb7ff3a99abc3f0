package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/projectcontour/gimbal/internal/upstream"
)

func TestClassify(t *testing.T) {
	resource := schema.GroupResource{Resource: "services"}
	wrap := func(err error) error { return &url.Error{Op: "Get", URL: "https://host", Err: err} }
	for want, errs := range map[upstream.Reason][]error{
		upstream.ReasonUnreachable: {
			wrap(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}),
			wrap(&net.OpError{Op: "dial", Err: context.DeadlineExceeded}),
			wrap(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}),
			wrap(&net.OpError{Op: "read", Err: syscall.ECONNRESET}),
		},
		upstream.ReasonTimeout: {
			context.DeadlineExceeded, errStalled, wrap(&net.OpError{Op: "read", Err: timeout{}}), apierrors.NewTimeoutError("x", 1),
		},
		upstream.ReasonUnknownAuthority: {
			wrap(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}),
		},
		upstream.ReasonInvalidCertificate: {
			wrap(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}),
			wrap(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}),
		},
		upstream.ReasonUnauthorized: {
			apierrors.NewUnauthorized("x"), wrap(&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}),
		},
		upstream.ReasonForbidden: {apierrors.NewForbidden(resource, "", nil)},
		upstream.ReasonTooLarge:  {&upstream.TooLarge{}, fmt.Errorf("x: %w", upstream.ErrResponseTooLarge)},
		upstream.ReasonServerError: {
			apierrors.NewInternalError(errors.New("x")), apierrors.NewTooManyRequests("x", 1), apierrors.NewNotFound(resource, ""),
			errors.New("x"), wrap(tls.RecordHeaderError{}),
		},
	} {
		for _, err := range errs {
			got := classify("list", endpointSlices, err)
			if got.Reason != want || got.Hint == "" || got.Err.Error() == "" || !errors.Is(got, err) {
				t.Errorf("%v: got %s (%s), want %s", err, got.Reason, got, want)
			}
		}
	}
	forbidden := classify("list", endpointSlices, apierrors.NewForbidden(resource, "", nil))
	if !strings.Contains(forbidden.Hint, "list and watch on endpointslices") || !strings.HasPrefix(forbidden.Error(), "list endpointslices: ") {
		t.Errorf("forbidden is %q", forbidden)
	}
}

// A status repeats the message: it must not change from one attempt to the next.
func TestMessagesAreStable(t *testing.T) {
	to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 6443}
	attempt := func(verb, query string, port int) string {
		from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: port}
		reset := &net.OpError{Op: "read", Net: "tcp", Source: from, Addr: to, Err: syscall.ECONNRESET}
		return classify(verb, services, &url.Error{Op: "Get", URL: "https://host/" + query, Err: reset}).Error()
	}
	if a, b := attempt("list", "?limit=1", 1001), attempt("watch", "?timeout=8m6s", 1002); a != b || !strings.Contains(a, "192.0.2.1:6443") {
		t.Errorf("%s\n%s", a, b)
	}
}

type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestMessagesAreBounded(t *testing.T) {
	got := classify("list", services, errors.New("\x1b[31m\n"+strings.Repeat("ü", 10_000))).Err.Error()
	if len(got) > 256+len("…") || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("message of %d bytes: %q", len(got), got)
	}
}

// What real connections make of it.
func TestClassifyConnections(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = nil
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	f := newFake(t)
	trusted := f.options(t).Config.TLSClientConfig
	misnamed := trusted
	misnamed.ServerName = "elsewhere.invalid"
	for _, tt := range []struct {
		name, host string
		tls        rest.TLSClientConfig
		want       upstream.Reason
	}{
		{"unknown authority", server.URL, rest.TLSClientConfig{}, upstream.ReasonUnknownAuthority},
		{"another name", f.URL, misnamed, upstream.ReasonInvalidCertificate},
		{"refused", closed.URL, rest.TLSClientConfig{}, upstream.ReasonUnreachable},
		{"no such name", "https://host.invalid", trusted, upstream.ReasonUnreachable},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), trusted, upstream.ReasonServerError},
		{"no API server", plain.URL, rest.TLSClientConfig{}, upstream.ReasonServerError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newClient(&rest.Config{Host: tt.host, TLSClientConfig: tt.tls, QPS: -1})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.core.Services("").List(t.Context(), metav1.ListOptions{Limit: 1})
			if got := classify("list", services, err); err == nil || got.Reason != tt.want {
				t.Errorf("got %v (%v)", got.Reason, err)
			}
		})
	}
}
