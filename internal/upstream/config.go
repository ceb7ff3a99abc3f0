package upstream

import (
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// The reasons to reject an UpstreamCluster that several kinds of upstream have. They are reasons of the condition Accepted.
const (
	ReasonInvalidSpec             = "InvalidSpec"             // a field can't be used
	ReasonSecretNotFound          = "SecretNotFound"          // the Secret, or its key, doesn't exist
	ReasonCredentialPluginRefused = "CredentialPluginRefused" // the credentials run a program or an auth provider
	ReasonFilePathRefused         = "FilePathRefused"         // the credentials read a file of the agent
	ReasonInsecureRefused         = "InsecureRefused"         // the server isn't authenticated
)

// Rejection is why an UpstreamCluster or its Secret can't be used. Its message names the
// object, the reason and the way out, and holds nothing of a Secret but the names of its entries.
type Rejection struct {
	// Reason is one word: the reason of the condition Accepted.
	Reason string
	Err    error
}

// Reject returns a Rejection. It wraps what the format's verb %w stands for.
func Reject(reason, format string, args ...any) *Rejection {
	return &Rejection{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func (r *Rejection) Error() string { return r.Err.Error() }

// Unwrap returns what went wrong.
func (r *Rejection) Unwrap() error { return r.Err }

// SecretValue returns a key of a Secret, which is nil where it doesn't exist, or a
// Rejection. The field is where the spec names the key.
func SecretValue(secret *corev1.Secret, name, key, field string) ([]byte, error) {
	if secret == nil {
		return nil, Reject(ReasonSecretNotFound, "Secret %s doesn't exist: kubectl create secret generic %s --from-file=%s=FILE", name, name, key)
	}
	value, ok := secret.Data[key]
	if !ok {
		return nil, Reject(ReasonSecretNotFound, "Secret %s has no key %q: add it, or name another in %s", name, key, field)
	}
	return value, nil
}

// Line returns where a parser's error lies. The rest of its message may quote what it read.
func Line(err error) string {
	if at := regexp.MustCompile(`line \d{1,6}`).FindString(err.Error()); at != "" {
		return " at " + at
	}
	return ""
}

// Allow is what an operator lets credentials do that is refused otherwise.
type Allow struct {
	// InsecureTLS allows certificates that aren't verified and servers without TLS.
	InsecureTLS bool
	// ExecPlugins allows users of a kubeconfig that run a credential plugin on the agent.
	ExecPlugins bool
}

// Limits is the budget of one upstream: the most that is kept of it.
type Limits struct {
	Services  int
	Slices    int // EndpointSlices, or listeners or pools
	Nodes     int
	Endpoints int
	// Bytes is about the memory that one kind of object may take.
	Bytes int
}

// DefaultLimits is the budget of an upstream where the operator sets no other.
func DefaultLimits() Limits {
	return Limits{Services: 20_000, Slices: 60_000, Nodes: 10_000, Endpoints: 500_000, Bytes: 128 << 20}
}

// TooLarge says that the upstream goes past its budget.
type TooLarge struct {
	Limit int
	// What there is too much of: "services", "bytes of services".
	What string
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("the upstream has more than %d %s", e.Limit, e.What)
}
