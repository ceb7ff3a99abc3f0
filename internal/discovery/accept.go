package discovery

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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

// Reasons of the condition Accepted besides upstream's.
const (
	reasonAccepted      = "Accepted"      // the spec and its Secret can be used
	reasonAmbiguousName = "AmbiguousName" // an earlier upstream's name can't be told from it in Service names
	reasonInvalidCIDR   = "InvalidCIDR"   // an entry of allowedCIDRs can't be used
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

// accept checks an UpstreamCluster and its Secret (nil if there is none) and makes its source.
func accept(uc *v1alpha1.UpstreamCluster, secret *corev1.Secret, p Policy, central []netip.Prefix, logger *slog.Logger) (*accepted, error) {
	spec := uc.Spec
	selector, err := metav1.LabelSelectorAsSelector(&spec.ServiceSelector)
	if err != nil {
		return nil, &rejection{upstream.ReasonInvalidSpec, fmt.Sprintf("spec.serviceSelector: %v", err)}
	}
	selection := mirror.Selection{Include: spec.Namespaces.Include, Exclude: spec.Namespaces.Exclude, Labels: selector}
	kind := kindOf(&spec)
	if kind == nil || spec.Kubernetes != nil && spec.OpenStack != nil {
		return nil, &rejection{upstream.ReasonInvalidSpec, "an upstream is of one kind: set spec.kubernetes or spec.openstack"}
	}
	of, err := kind.Accept(&spec, secret, upstream.Environment{Selection: selection, Allow: p.Allow, Limits: p.Limits, UserAgent: p.UserAgent, Logger: logger})
	if refused := (*upstream.Rejection)(nil); errors.As(err, &refused) {
		return nil, &rejection{refused.Reason, fmt.Sprintf("Secret %s: %v", credentials(uc), refused)}
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
		Source:      of.NewSource,
		Rules:       mirror.Rules{Backend: uc.Name, Addresses: addresses, DeniedLabels: p.DeniedLabels},
		Guard:       mirror.Guard{MaxPercent: int(ptr.Deref(spec.DeletionGuard.MaxPercent, 30)), MinServices: int(ptr.Deref(spec.DeletionGuard.MinServices, 10))},
		StaleAfter:  stale,
		Fingerprint: fingerprint(spec, of.Credentials),
	}, nil
}

func staleAfter(s string) (time.Duration, error) {
	if s == "" || s == "never" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Minute {
		return 0, &rejection{upstream.ReasonInvalidSpec, fmt.Sprintf("spec.staleAfter: %q is neither never nor a duration of at least 1m", s)}
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

func kindOf(spec *v1alpha1.UpstreamClusterSpec) upstream.Kind {
	for _, k := range []upstream.Kind{kubernetes.Kind{}, openstack.Kind{}} {
		if k.Selected(spec) {
			return k
		}
	}
	return nil
}
