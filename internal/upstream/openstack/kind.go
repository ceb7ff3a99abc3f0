package openstack

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// The reasons to reject an UpstreamCluster that only this kind has.
const (
	ReasonInvalidClouds = "InvalidClouds" // a clouds.yaml that can't be parsed, is incomplete, or asks for what isn't supported
)

// Kind is the kind of upstream that spec.openstack stands for.
type Kind struct{}

var _ upstream.Kind = Kind{}

// Name implements upstream.Kind.
func (Kind) Name() string { return "openstack" }

// Selected implements upstream.Kind.
func (Kind) Selected(spec *v1alpha1.UpstreamClusterSpec) bool { return spec.OpenStack != nil }

// Secret implements upstream.Kind.
func (Kind) Secret(spec *v1alpha1.UpstreamClusterSpec) string {
	return spec.OpenStack.CloudsSecret.Name
}

// Accept implements upstream.Kind.
func (Kind) Accept(spec *v1alpha1.UpstreamClusterSpec, secret *corev1.Secret, e upstream.Environment) (upstream.Accepted, error) {
	ref := spec.OpenStack.CloudsSecret
	clouds, err := upstream.SecretValue(secret, ref.Name, cmp.Or(ref.Key, "clouds.yaml"), "spec.openstack.cloudsSecret.key")
	if err != nil {
		return upstream.Accepted{}, err
	}
	var ca []byte
	if ref.CAKey != "" {
		if ca, err = upstream.SecretValue(secret, ref.Name, ref.CAKey, "spec.openstack.cloudsSecret.caKey"); err != nil {
			return upstream.Accepted{}, err
		}
	}
	config, err := ParseClouds(clouds, ref.Cloud, ca, e.UserAgent, e.Allow)
	if err != nil {
		return upstream.Accepted{}, fmt.Errorf("Secret %s: %w", ref.Name, err)
	}
	poll, err := interval(spec.OpenStack.PollInterval, "spec.openstack.pollInterval")
	if err != nil {
		return upstream.Accepted{}, err
	}
	health, err := interval(spec.OpenStack.HealthInterval, "spec.openstack.healthInterval")
	if err != nil {
		return upstream.Accepted{}, err
	}
	return upstream.Accepted{Credentials: slices.Concat(clouds, []byte{0}, ca), NewSource: func() (upstream.Source, error) {
		return New(Options{
			Config: config, Addressing: spec.OpenStack.Addressing, Limits: e.Limits, Logger: e.Logger,
			Selection:    Selection{Selection: e.Selection, Include: spec.OpenStack.Projects.Include, Exclude: spec.OpenStack.Projects.Exclude},
			PollInterval: poll, HealthInterval: health,
		}), nil
	}}, nil
}

// interval returns a duration of the spec; one that isn't set is 0, which stands for the default.
func interval(d *metav1.Duration, field string) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.Duration < time.Second {
		return 0, upstream.Reject(upstream.ReasonInvalidSpec, "%s: %s isn't a duration of at least 1s", field, d.Duration)
	}
	return d.Duration, nil
}
