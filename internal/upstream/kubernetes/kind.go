package kubernetes

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// The reasons to reject an UpstreamCluster that only this kind has.
const (
	ReasonInvalidKubeconfig = "InvalidKubeconfig" // a kubeconfig that can't be parsed, is incomplete, or asks for what isn't supported
)

// Kind is the kind of upstream that spec.kubernetes stands for.
type Kind struct{}

var _ upstream.Kind = Kind{}

// Name implements upstream.Kind.
func (Kind) Name() string { return "kubernetes" }

// Selected implements upstream.Kind.
func (Kind) Selected(spec *v1alpha1.UpstreamClusterSpec) bool { return spec.Kubernetes != nil }

// Secret implements upstream.Kind.
func (Kind) Secret(spec *v1alpha1.UpstreamClusterSpec) string {
	return spec.Kubernetes.KubeconfigSecret.Name
}

// Accept implements upstream.Kind.
func (Kind) Accept(spec *v1alpha1.UpstreamClusterSpec, secret *corev1.Secret, e upstream.Environment) (upstream.Accepted, error) {
	ref := spec.Kubernetes.KubeconfigSecret
	kubeconfig, err := upstream.SecretValue(secret, ref.Name, cmp.Or(ref.Key, "kubeconfig"), "spec.kubernetes.kubeconfigSecret.key")
	if err != nil {
		return upstream.Accepted{}, err
	}
	config, err := RESTConfig(kubeconfig, e.UserAgent, e.Allow)
	if err != nil {
		return upstream.Accepted{}, fmt.Errorf("Secret %s: %w", ref.Name, err)
	}
	return upstream.Accepted{Credentials: kubeconfig, NewSource: func() (upstream.Source, error) {
		return New(Options{
			Config: config, Addressing: spec.Kubernetes.Addressing, Selection: e.Selection, Limits: e.Limits, Logger: e.Logger,
		})
	}}, nil
}
