package upstream

import (
	"log/slog"

	corev1 "k8s.io/api/core/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// Kind is a kind of upstream cluster. Whatever only one kind has lies in its package: how
// its part of the spec and its Secret are checked, reasons, hints, labels and limits.
type Kind interface {
	// Name is the kind's field in the spec, such as "kubernetes".
	Name() string

	// Selected reports whether the spec says that the upstream is of this kind.
	Selected(spec *v1alpha1.UpstreamClusterSpec) bool

	// Secret returns the name of the Secret that the spec names.
	Secret(spec *v1alpha1.UpstreamClusterSpec) string

	// Accept checks the kind's part of the spec and the Secret, which is nil where it
	// doesn't exist. What can't be used is a *Rejection.
	Accept(spec *v1alpha1.UpstreamClusterSpec, secret *corev1.Secret, e Environment) (Accepted, error)
}

// Environment is what every kind gets from the engine.
type Environment struct {
	// Selection is what the spec selects of any kind of upstream.
	Selection mirror.Selection
	// Allow loosens what credentials may hold.
	Allow  Allow
	Limits Limits
	// UserAgent is sent to the upstream.
	UserAgent string
	Logger    *slog.Logger
}

// Accepted is a kind's part of an UpstreamCluster, checked.
type Accepted struct {
	// NewSource makes a Source that has read nothing yet.
	NewSource func() (Source, error)
	// Credentials are what was used of the Secret. A change of them, or of the spec, needs a new Source.
	Credentials []byte
}
