package discovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/kubernetes"
	"github.com/projectcontour/gimbal/internal/upstream/openstack"
)

// Reasons of the condition Accepted besides those of upstream.ConfigError.
const (
	reasonAccepted       = "Accepted"       // the spec and its Secret can be used
	reasonAmbiguousName  = "AmbiguousName"  // an earlier upstream's name can't be told from it in Service names
	reasonInvalidSpec    = "InvalidSpec"    // a field can't be used
	reasonInvalidCIDR    = "InvalidCIDR"    // an entry of allowedCIDRs can't be used
	reasonSecretNotFound = "SecretNotFound" // the Secret, or its key, doesn't exist
)

// rejection is why an UpstreamCluster can't be served, with the way out.
type rejection struct {
	Reason  string
	Message string
}

func (r *rejection) Error() string { return r.Message }

// accepted is an UpstreamCluster, checked and turned into what an agent needs.
type accepted struct {
	Source     func() (upstream.Source, error)
	Rules      mirror.Rules
	Guard      mirror.Guard
	StaleAfter time.Duration
	// Fingerprint changes with everything that needs a new agent.
	Fingerprint [sha256.Size]byte
}

// Policy is what the operator of the central cluster lets every upstream do.
type Policy struct {
	// Allow loosens what credentials may hold.
	Allow upstream.Allow
	// Limits bound what one upstream may make an agent hold in memory.
	Limits upstream.Limits
	// DeniedLabels are label keys, or prefixes ending in "/*", that are never mirrored.
	DeniedLabels []string
	// CentralCIDRs are ranges of the central cluster, refused as endpoints beside those that it shows itself.
	CentralCIDRs []netip.Prefix
	// UserAgent is sent to every upstream.
	UserAgent string
}

// ambiguous rejects an UpstreamCluster whose name can't be told from an earlier
// one's in the names of central objects (mirror.Ambiguous).
func ambiguous(uc *v1alpha1.UpstreamCluster, all []v1alpha1.UpstreamCluster) *rejection {
	for i := range all {
		other := &all[i]
		if other.Name == uc.Name || !mirror.Ambiguous(uc.Name, other.Name) || !earlier(other, uc) {
			continue
		}
		return &rejection{reasonAmbiguousName, fmt.Sprintf(
			"the name %s can't be told from the upstream %s in Service names: one is the other plus \"-…\"; create it under another name, or delete %s first",
			uc.Name, other.Name, other.Name)}
	}
	return nil
}

func earlier(a, b *v1alpha1.UpstreamCluster) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

// kind is what accept learns of the kind of an upstream.
type kind struct {
	Source func() (upstream.Source, error)
	// Credentials are what the Secret holds, for the fingerprint.
	Credentials []byte
}

// accept checks an UpstreamCluster and its Secret (nil if there is none) and makes its source.
func accept(uc *v1alpha1.UpstreamCluster, secret *corev1.Secret, p Policy, central []netip.Prefix, logger *slog.Logger) (*accepted, error) {
	spec := uc.Spec
	selector, err := metav1.LabelSelectorAsSelector(&spec.ServiceSelector)
	if err != nil {
		return nil, &rejection{reasonInvalidSpec, fmt.Sprintf("spec.serviceSelector: %v", err)}
	}
	selection := mirror.Selection{Include: spec.Namespaces.Include, Exclude: spec.Namespaces.Exclude, Labels: selector}
	var of kind
	switch {
	case spec.Kubernetes != nil && spec.OpenStack != nil:
		return nil, &rejection{reasonInvalidSpec, "an upstream is of one kind: set spec.kubernetes or spec.openstack, not both"}
	case spec.Kubernetes != nil:
		of, err = acceptKubernetes(spec.Kubernetes, secret, selection, p, logger)
	case spec.OpenStack != nil:
		of, err = acceptOpenStack(spec.OpenStack, secret, selection, p, logger)
	default:
		return nil, &rejection{reasonInvalidSpec, "the kind of upstream is missing: set spec.kubernetes or spec.openstack"}
	}
	if refused := (*upstream.ConfigError)(nil); errors.As(err, &refused) {
		return nil, &rejection{string(refused.Reason), fmt.Sprintf("Secret %s: %v", credentials(uc), refused)}
	} else if err != nil {
		return nil, err
	}
	addresses, err := mirror.NewAddressPolicy(spec.AllowedCIDRs, central)
	if err != nil {
		return nil, &rejection{reasonInvalidCIDR, fmt.Sprintf("spec.allowedCIDRs: %v", err)}
	}
	stale, err := staleAfter(spec.StaleAfter)
	if err != nil {
		return nil, err
	}
	return &accepted{
		Source:      of.Source,
		Rules:       mirror.Rules{Backend: uc.Name, Addresses: addresses, DeniedLabels: p.DeniedLabels},
		Guard:       mirror.Guard{MaxPercent: int(ptr.Deref(spec.DeletionGuard.MaxPercent, 30)), MinServices: int(ptr.Deref(spec.DeletionGuard.MinServices, 10))},
		StaleAfter:  stale,
		Fingerprint: fingerprint(spec, of.Credentials),
	}, nil
}

func acceptKubernetes(spec *v1alpha1.KubernetesUpstream, secret *corev1.Secret, selection mirror.Selection, p Policy, logger *slog.Logger) (kind, error) {
	kubeconfig, err := secretValue(secret, spec.KubeconfigSecret.Name, cmp.Or(spec.KubeconfigSecret.Key, "kubeconfig"), "spec.kubernetes.kubeconfigSecret.key")
	if err != nil {
		return kind{}, err
	}
	config, err := kubernetes.RESTConfig(kubeconfig, p.UserAgent, p.Allow)
	if err != nil {
		return kind{}, err
	}
	return kind{Credentials: kubeconfig, Source: func() (upstream.Source, error) {
		return kubernetes.New(kubernetes.Options{
			Config: config, Addressing: spec.Addressing, Selection: selection, Limits: p.Limits, Logger: logger,
		})
	}}, nil
}

func acceptOpenStack(spec *v1alpha1.OpenStackUpstream, secret *corev1.Secret, selection mirror.Selection, p Policy, logger *slog.Logger) (kind, error) {
	ref := spec.CloudsSecret
	clouds, err := secretValue(secret, ref.Name, cmp.Or(ref.Key, "clouds.yaml"), "spec.openstack.cloudsSecret.key")
	if err != nil {
		return kind{}, err
	}
	var ca []byte
	if ref.CAKey != "" {
		if ca, err = secretValue(secret, ref.Name, ref.CAKey, "spec.openstack.cloudsSecret.caKey"); err != nil {
			return kind{}, err
		}
	}
	config, err := openstack.ParseClouds(clouds, ref.Cloud, ca, p.UserAgent, p.Allow)
	if err != nil {
		return kind{}, err
	}
	poll, err := interval(spec.PollInterval, "spec.openstack.pollInterval")
	if err != nil {
		return kind{}, err
	}
	health, err := interval(spec.HealthInterval, "spec.openstack.healthInterval")
	if err != nil {
		return kind{}, err
	}
	return kind{Credentials: slices.Concat(clouds, []byte{0}, ca), Source: func() (upstream.Source, error) {
		return openstack.New(openstack.Options{
			Config: config, Addressing: spec.Addressing, Limits: p.Limits, Logger: logger,
			Selection:    openstack.Selection{Selection: selection, Include: spec.Projects.Include, Exclude: spec.Projects.Exclude},
			PollInterval: poll, HealthInterval: health,
		}), nil
	}}, nil
}

// secretValue returns a key of a Secret, which is nil where it doesn't exist. The field is where the key is set.
func secretValue(secret *corev1.Secret, name, key, field string) ([]byte, error) {
	if secret == nil {
		return nil, &rejection{reasonSecretNotFound, fmt.Sprintf(
			"Secret %s doesn't exist: kubectl create secret generic %s --from-file=%s=FILE", name, name, key)}
	}
	value, ok := secret.Data[key]
	if !ok {
		return nil, &rejection{reasonSecretNotFound, fmt.Sprintf(
			"Secret %s has no key %q: add it, or name another in %s", name, key, field)}
	}
	return value, nil
}

// interval parses a duration; an empty one is 0.
func interval(s, field string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, &rejection{reasonInvalidSpec, fmt.Sprintf("%s: %q isn't a duration of at least 1s", field, s)}
	}
	return d, nil
}

func staleAfter(s string) (time.Duration, error) {
	if s == "" || s == "never" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Minute {
		return 0, &rejection{reasonInvalidSpec, fmt.Sprintf("spec.staleAfter: %q is neither never nor a duration of at least 1m", s)}
	}
	return d, nil
}

// fingerprint covers the spec, less what takes effect without a new agent, and the credentials.
func fingerprint(spec v1alpha1.UpstreamClusterSpec, credentials []byte) [sha256.Size]byte {
	spec.DeletionPolicy, spec.Paused = "", false
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(spec) // a hash doesn't fail, and the type has no unmarshallable field
	h.Write(credentials)
	return [sha256.Size]byte(h.Sum(nil))
}
