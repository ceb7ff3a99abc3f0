package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// maxMessage is the most bytes of an error's message that are kept: it may be the upstream's text.
const maxMessage = 256

// classify says why a request failed, and the way out. The verb and the kind name the
// request where that matters. Equal failures have equal messages, so that a status
// which repeats them doesn't change.
func classify(verb string, k kind, err error) *upstream.Error {
	reason, hint := reasonOf(err)
	message := describe(err)
	switch reason {
	case upstream.ReasonForbidden:
		grant := "deploy/upstream"
		if k == nodes {
			grant += "/nodeport"
		}
		hint = fmt.Sprintf("grant get, list and watch on %s: kubectl apply -k %s", k, grant)
		fallthrough
	case upstream.ReasonServerError, upstream.ReasonTooLarge:
		message = fmt.Sprintf("%s %s: %s", verb, k, message)
	}
	return &upstream.Error{Reason: reason, Hint: hint, Err: &failure{clean(message), err}}
}

// describe writes an error without what differs from one attempt to the next: a URL's
// query, the client's own port.
func describe(err error) string {
	var (
		request *url.Error
		network *net.OpError
	)
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if errors.As(err, &network) && network.Addr != nil {
		return fmt.Sprintf("%s %s: %v", network.Op, network.Addr, network.Err)
	}
	if errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}

func reasonOf(err error) (upstream.Reason, string) {
	var large *tooLarge
	switch {
	case errors.As(err, &large):
		return upstream.ReasonTooLarge, "narrow spec.namespaces or spec.serviceSelector, or raise the agent's limits"
	case errors.Is(err, errResponseTooLarge):
		return upstream.ReasonTooLarge, "look for objects of extraordinary size in the upstream"
	case apierrors.IsUnauthorized(err):
		return upstream.ReasonUnauthorized, "the token or client certificate is expired, revoked or of another cluster: update the kubeconfig's Secret"
	case apierrors.IsForbidden(err):
		return upstream.ReasonForbidden, ""
	case apierrors.IsTooManyRequests(err):
		return upstream.ReasonServerError, "the API server is overloaded: it is asked again"
	case apierrors.IsNotFound(err):
		return upstream.ReasonServerError, "check that the kubeconfig's server is a Kubernetes API server"
	}
	if reason, hint := certificateReason(err); reason != "" {
		return reason, hint
	}
	return networkReason(err)
}

// certificateReason recognizes a TLS handshake that failed for a certificate.
func certificateReason(err error) (upstream.Reason, string) {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		other     *tls.CertificateVerificationError
		plaintext tls.RecordHeaderError
		network   *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return upstream.ReasonUnknownAuthority, "set certificate-authority-data in the kubeconfig to the CA that signed the API server's certificate"
	case errors.As(err, &hostname):
		return upstream.ReasonInvalidCertificate, "use a server name that the certificate holds, or set tls-server-name in the kubeconfig"
	case errors.As(err, &invalid), errors.As(err, &other):
		return upstream.ReasonInvalidCertificate, "renew the API server's certificate, and check the agent's clock"
	case errors.As(err, &plaintext):
		return upstream.ReasonServerError, "the server doesn't speak TLS: check the kubeconfig's server"
	case errors.As(err, &network) && network.Op == "remote error":
		return upstream.ReasonUnauthorized, "the server ended the TLS handshake, likely for the client certificate: update the kubeconfig's Secret"
	}
	return "", ""
}

// networkReason tells a server that can't be reached from one that doesn't answer and
// one whose answer can't be used.
func networkReason(err error) (upstream.Reason, string) {
	var (
		network *net.OpError
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.As(err, &dns):
		return upstream.ReasonUnreachable, "the server's name can't be resolved: check the kubeconfig's server and the agent's DNS"
	case errors.As(err, &network) && (network.Op == "dial" || network.Op == "proxyconnect"):
		return upstream.ReasonUnreachable, "check that the API server runs and that the agent's network reaches it"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errStalled),
		apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), errors.As(err, &timeout) && timeout.Timeout():
		return upstream.ReasonTimeout, "check the API server's load and the network"
	case errors.As(err, &network):
		return upstream.ReasonUnreachable, "the connection broke: check the API server and the network"
	}
	return upstream.ReasonServerError, "see the API server's log"
}

// failure is an error whose message is safe to show.
type failure struct {
	message string
	err     error
}

func (f *failure) Error() string { return f.message }

func (f *failure) Unwrap() error { return f.err }

// clean cuts a message that may be the upstream's to maxMessage bytes and takes control characters out of it.
func clean(s string) string {
	cut := len(s) > maxMessage
	if cut {
		s = s[:maxMessage]
	}
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if cut {
		s += "…"
	}
	return s
}
