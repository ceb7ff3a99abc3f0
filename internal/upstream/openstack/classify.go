package openstack

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// errOwnProjectOnly says that the credential lists its own project's load balancers alone,
// which looks like a cloud that has no others.
var errOwnProjectOnly = errors.New("the credential sees its own project's load balancers only")

const grantHint = "give its user the role load-balancer_global_observer, and Octavia the policy for it (docs/operator-guide.md#openstack), or include its own project only in spec.openstack.projects"

// classify says why a reading failed, and the way out. Equal failures have equal messages,
// and none holds one of the secrets.
func classify(err error, secrets ...string) *upstream.Error {
	err = cause(err)
	reason, hint := reasonOf(err)
	return upstream.NewError(reason, hint, describe(err, secrets), err)
}

func reasonOf(err error) (upstream.Reason, string) {
	var (
		large    *upstream.TooLarge
		endpoint *endpointError
		config   *upstream.Rejection
		answer   gophercloud.ErrUnexpectedResponseCode
	)
	switch {
	case errors.As(err, &large):
		return upstream.ReasonTooLarge, "narrow spec.openstack.projects, or raise the agent's limits"
	case errors.Is(err, upstream.ErrResponseTooLarge):
		return upstream.ReasonTooLarge, "look for objects of extraordinary size in the cloud"
	case errors.Is(err, errOwnProjectOnly):
		return upstream.ReasonForbidden, grantHint
	case errors.Is(err, errOwnAddressesOnly):
		return upstream.ReasonForbidden, "give its role the policy for it in Neutron (docs/operator-guide.md#vip-addressing), or include its own project only in spec.openstack.projects"
	case errors.Is(err, errNoProject):
		return upstream.ReasonUnauthorized, "give project_name or project_id in the clouds.yaml"
	case errors.As(err, &endpoint):
		return upstream.ReasonServerError, "correct region_name and interface in the clouds.yaml"
	case errors.As(err, &config):
		return upstream.ReasonServerError, "give the endpoint TLS, or allow upstreams without it by --allow-insecure-upstreams"
	case errors.As(err, &answer):
		return reasonOfStatus(answer.Actual)
	}
	fault := upstream.FaultOf(err)
	return fault.Reason(), wayOut(fault)
}

func reasonOfStatus(status int) (upstream.Reason, string) {
	switch status {
	case http.StatusUnauthorized:
		return upstream.ReasonUnauthorized, "the password or application credential is wrong, expired or revoked, or its user has no role in the project: update the clouds.yaml's Secret"
	case http.StatusForbidden:
		return upstream.ReasonForbidden, grantHint
	case http.StatusTooManyRequests:
		return upstream.ReasonServerError, "the API limits requests: it is asked again"
	case http.StatusNotFound:
		return upstream.ReasonServerError, "check auth_url in the clouds.yaml, and the load-balancer endpoint in Keystone's catalog"
	case http.StatusServiceUnavailable:
		return upstream.ReasonServerError, "see Octavia's and Keystone's logs; Octavia says so too when it can't reach Keystone"
	}
	if status >= 300 && status < 400 {
		return upstream.ReasonServerError, "redirects aren't followed, they could lead the credentials elsewhere: correct auth_url, and the endpoint in Keystone's catalog"
	}
	return upstream.ReasonServerError, "see Octavia's and Keystone's logs"
}

// cause returns the error that counts where a new token was asked for and wasn't given.
func cause(err error) error {
	if unable := (*gophercloud.ErrUnableToReauthenticate)(nil); errors.As(err, &unable) {
		return unable.ErrReauth
	}
	return err
}

// describe writes an error for people. Of an answer's body only the message that the API
// puts there is shown, and of a server's own fault nothing: it may hold anything.
func describe(err error, secrets []string) string {
	var answer gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &answer) {
		return upstream.Describe(err)
	}
	who := "Keystone"
	switch {
	case strings.Contains(answer.URL, "/v2.0/lbaas/"):
		who = "Octavia"
	case strings.Contains(answer.URL, "/v2.0/floatingips"), strings.Contains(answer.URL, "/v2.0/ports"):
		who = "Neutron"
	}
	text := fmt.Sprintf("%s answered %d %s", who, answer.Actual, http.StatusText(answer.Actual))
	var body struct {
		Fault       string `json:"faultstring"`
		Description string `json:"description"`
		Error       struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if answer.Actual < 500 && json.Unmarshal(answer.Body, &body) == nil {
		message := cmp.Or(body.Fault, body.Description, body.Error.Message)
		if message != "" && !slices.ContainsFunc(secrets, func(s string) bool { return s != "" && strings.Contains(message, s) }) {
			text += ": " + strings.TrimSuffix(message, ".")
		}
	}
	return text
}

// wayOut says what to do about a fault.
func wayOut(f upstream.Fault) string {
	switch f {
	case upstream.NameUnknown:
		return "the server's name can't be resolved: check auth_url, Keystone's catalog, and the agent's DNS"
	case upstream.NotConnected:
		return "check that Keystone, Octavia and, with VIP addressing, Neutron run and that the agent's network reaches them"
	case upstream.NoAnswer:
		return "check the load of Keystone, Octavia and, with VIP addressing, Neutron, and the network"
	case upstream.Disconnected:
		return "the connection broke: check Keystone, Octavia and the network"
	case upstream.UnknownAuthority:
		return "put the CA that signed the API's certificate into the Secret, and its key into spec.openstack.cloudsSecret.caKey"
	case upstream.WrongHost:
		return "use a host name that the certificate holds in auth_url and in Keystone's catalog"
	case upstream.InvalidCertificate:
		return "renew the API's certificate, and check the agent's clock"
	case upstream.Plaintext:
		return "the server doesn't speak TLS: check auth_url and Keystone's catalog"
	case upstream.HandshakeRefused:
		return "the server ended the TLS handshake: check what it asks of its clients"
	}
	return "see Octavia's and Keystone's logs"
}
