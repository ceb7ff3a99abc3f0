// Package accept checks UpstreamClusters: whether one can be served, and what its agent needs.
package accept

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// The reasons to reject an UpstreamCluster besides upstream's and those of its kind.
const (
	ReasonAmbiguousName = "AmbiguousName" // an earlier upstream's name can't be told from it in Service names
	ReasonInvalidCIDR   = "InvalidCIDR"   // an entry of allowedCIDRs can't be used
)

// Policy is what the operator of the central cluster lets every upstream do.
type Policy struct {
	// Kinds are the kinds of upstream that there are.
	Kinds []upstream.Kind
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

// Central is what the central cluster shows of itself.
type Central struct {
	// Ranges are its own addresses, which no endpoint may have.
	Ranges []netip.Prefix
	// Families are those of its nodes' addresses; none where it shows no node.
	Families []discoveryv1.AddressType
}

// Accepted is an UpstreamCluster, checked and turned into what an agent needs.
type Accepted struct {
	NewSource  func() (upstream.Source, error)
	Rules      mirror.Rules
	Guard      mirror.GuardLimit
	HoldLosses bool
	StaleAfter time.Duration
	// Fingerprint changes with everything that needs a new agent. Rules aren't in it: an agent takes new ones.
	Fingerprint [sha256.Size]byte
}

// Upstream checks an UpstreamCluster among all of its namespace, and its Secret, which is nil
// where there is none. What can't be used is an *upstream.Rejection.
func Upstream(uc *v1alpha1.UpstreamCluster, all []v1alpha1.UpstreamCluster, secret *corev1.Secret, p Policy, c Central, logger *slog.Logger) (*Accepted, error) {
	if err := unambiguous(uc, all); err != nil {
		return nil, err
	}
	spec := uc.Spec.DeepCopy() // a Source may keep parts of it
	selector, err := metav1.LabelSelectorAsSelector(&spec.ServiceSelector)
	if err != nil {
		return nil, upstream.Reject(upstream.ReasonInvalidSpec, "spec.serviceSelector: %w", err)
	}
	kind, err := p.kind(spec)
	if err != nil {
		return nil, err
	}
	of, err := kind.Accept(spec, secret, upstream.Environment{
		Selection: mirror.Selection{Include: spec.Namespaces.Include, Exclude: spec.Namespaces.Exclude, Labels: selector},
		Allow:     p.Allow, Limits: p.Limits, UserAgent: p.UserAgent, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	rules, err := Rules(uc, p, c)
	if err != nil {
		return nil, err
	}
	stale, err := staleAfter(spec.StaleAfter)
	if err != nil {
		return nil, err
	}
	guard := spec.DeletionGuard
	return &Accepted{
		NewSource:   of.NewSource,
		Rules:       rules,
		Guard:       mirror.GuardLimit{MaxPercent: int(ptr.Deref(guard.MaxPercent, 30)), MinServices: int(ptr.Deref(guard.MinServices, 10))},
		HoldLosses:  guard.Endpoints == v1alpha1.EndpointsHold,
		StaleAfter:  stale,
		Fingerprint: fingerprint(*spec, of.Credentials),
	}, nil
}

// Rules returns the rules by which an upstream's Services are mirrored, as the central
// cluster is now.
func Rules(uc *v1alpha1.UpstreamCluster, p Policy, c Central) (mirror.Rules, error) {
	addresses, err := mirror.NewAddressPolicy(uc.Spec.AllowedCIDRs, c.Ranges)
	if err != nil {
		return mirror.Rules{}, upstream.Reject(ReasonInvalidCIDR, "spec.allowedCIDRs: %w", err)
	}
	return mirror.Rules{Backend: uc.Name, Addresses: addresses, Families: families(uc, c), DeniedLabels: p.DeniedLabels}, nil
}

func families(uc *v1alpha1.UpstreamCluster, c Central) []discoveryv1.AddressType {
	var set []discoveryv1.AddressType
	for _, f := range uc.Spec.Families {
		set = append(set, discoveryv1.AddressType(f))
	}
	if len(set) > 0 {
		return set
	}
	return c.Families
}

// FamiliesNote says, in a clause that follows another, which families aren't mirrored and why; or nothing.
func FamiliesNote(uc *v1alpha1.UpstreamCluster, c Central) string {
	missing := ""
	switch f := families(uc, c); {
	case len(f) != 1:
		return ""
	case f[0] == discoveryv1.AddressTypeIPv4:
		missing = "IPv6"
	default:
		missing = "IPv4"
	}
	if len(uc.Spec.Families) > 0 {
		return fmt.Sprintf("; %s endpoints aren't mirrored: spec.families leaves them out", missing)
	}
	return fmt.Sprintf("; %s endpoints aren't mirrored: no node of the central cluster has an %s address (spec.families overrides that)", missing, missing)
}

// Secret returns the name of the Secret that an UpstreamCluster uses, or "".
func (p Policy) Secret(uc *v1alpha1.UpstreamCluster) string {
	kind, err := p.kind(&uc.Spec)
	if err != nil {
		return ""
	}
	return kind.Secret(&uc.Spec)
}

func (p Policy) kind(spec *v1alpha1.UpstreamClusterSpec) (upstream.Kind, error) {
	var found upstream.Kind
	for _, k := range p.Kinds {
		if !k.Selected(spec) {
			continue
		}
		if found != nil {
			return nil, upstream.Reject(upstream.ReasonInvalidSpec, "an upstream is of one kind: set spec.%s or spec.%s, not both", found.Name(), k.Name())
		}
		found = k
	}
	if found == nil {
		return nil, upstream.Reject(upstream.ReasonInvalidSpec, "the kind of upstream is missing: set one of %s", p.fields())
	}
	return found, nil
}

func (p Policy) fields() string {
	s := ""
	for i, k := range p.Kinds {
		if i > 0 {
			s += ", "
		}
		s += "spec." + k.Name()
	}
	return s
}

// unambiguous rejects an UpstreamCluster whose name can't be told from an earlier one's in
// the names of central objects (mirror.Ambiguous).
func unambiguous(uc *v1alpha1.UpstreamCluster, all []v1alpha1.UpstreamCluster) error {
	for i := range all {
		other := &all[i]
		if other.Name != uc.Name && mirror.Ambiguous(uc.Name, other.Name) && earlier(other, uc) {
			return upstream.Reject(ReasonAmbiguousName,
				"the name %s can't be told from the upstream %s in Service names: one is the other plus \"-…\"; create it under another name, or delete %s first",
				uc.Name, other.Name, other.Name)
		}
	}
	return nil
}

func earlier(a, b *v1alpha1.UpstreamCluster) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

func staleAfter(s string) (time.Duration, error) {
	if s == "" || s == "never" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Minute {
		return 0, upstream.Reject(upstream.ReasonInvalidSpec, "spec.staleAfter: %q is neither never nor a duration of at least 1m", s)
	}
	return d, nil
}

// fingerprint covers the spec, less what takes effect without a new agent, and the credentials.
func fingerprint(spec v1alpha1.UpstreamClusterSpec, credentials []byte) [sha256.Size]byte {
	spec.DeletionPolicy, spec.Paused = "", false
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(spec); err != nil {
		panic(errors.Join(errors.New("an API type can't be marshalled"), err))
	}
	h.Write(credentials)
	return [sha256.Size]byte(h.Sum(nil))
}
