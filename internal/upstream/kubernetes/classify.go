package kubernetes

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// classify says why a request failed, and the way out. The verb and the kind name the
// request where that matters. Equal failures have equal messages, so that a status
// which repeats them doesn't change.
func classify(verb string, k kind, err error) *upstream.Error {
	reason, hint := reasonOf(err)
	message := upstream.Describe(err)
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
	return upstream.NewError(reason, hint, message, err)
}

func reasonOf(err error) (upstream.Reason, string) {
	var large *upstream.TooLarge
	switch {
	case errors.As(err, &large):
		return upstream.ReasonTooLarge, "narrow spec.namespaces or spec.serviceSelector, or raise the agent's limits"
	case errors.Is(err, upstream.ErrResponseTooLarge):
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
	fault := upstream.FaultOf(err)
	if fault == upstream.NoFault && (errors.Is(err, errStalled) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)) {
		fault = upstream.NoAnswer
	}
	return fault.Reason(), wayOut(fault)
}

// wayOut says what to do about a fault.
func wayOut(f upstream.Fault) string {
	switch f {
	case upstream.NameUnknown:
		return "the server's name can't be resolved: check the kubeconfig's server and the agent's DNS"
	case upstream.NotConnected:
		return "check that the API server runs and that the agent's network reaches it"
	case upstream.NoAnswer:
		return "check the API server's load and the network"
	case upstream.Disconnected:
		return "the connection broke: check the API server and the network"
	case upstream.UnknownAuthority:
		return "set certificate-authority-data in the kubeconfig to the CA that signed the API server's certificate"
	case upstream.WrongHost:
		return "use a server name that the certificate holds, or set tls-server-name in the kubeconfig"
	case upstream.InvalidCertificate:
		return "renew the API server's certificate, and check the agent's clock"
	case upstream.Plaintext:
		return "the server doesn't speak TLS: check the kubeconfig's server"
	case upstream.HandshakeRefused:
		return "the server ended the TLS handshake, likely for the client certificate: update the kubeconfig's Secret"
	}
	return "see the API server's log"
}
