package upstreamtest

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Kind is an upstream.Kind whose Sources a test makes. It stands in for kubernetes: its
// part of the spec is that kind's, and its Secret must hold the key "kubeconfig".
type Kind struct {
	NewSource func() (upstream.Source, error)
}

// Name implements upstream.Kind.
func (Kind) Name() string { return "kubernetes" }

// Selected implements upstream.Kind.
func (Kind) Selected(spec *v1alpha1.UpstreamClusterSpec) bool { return spec.Kubernetes != nil }

// Secret implements upstream.Kind.
func (Kind) Secret(spec *v1alpha1.UpstreamClusterSpec) string {
	return spec.Kubernetes.KubeconfigSecret.Name
}

// Accept implements upstream.Kind.
func (k Kind) Accept(spec *v1alpha1.UpstreamClusterSpec, secret *corev1.Secret, _ upstream.Environment) (upstream.Accepted, error) {
	credentials, err := upstream.SecretValue(secret, spec.Kubernetes.KubeconfigSecret.Name, "kubeconfig", "spec.kubernetes.kubeconfigSecret.key")
	return upstream.Accepted{NewSource: k.NewSource, Credentials: credentials}, err
}
