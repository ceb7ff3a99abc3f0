package accept

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/kubernetes"
	"github.com/projectcontour/gimbal/internal/upstream/openstack"
)

func policy() Policy {
	return Policy{Kinds: []upstream.Kind{kubernetes.Kind{}, openstack.Kind{}}}
}

func upstreamNamed(name string, created int64) v1alpha1.UpstreamCluster {
	uc := v1alpha1.UpstreamCluster{}
	uc.Name, uc.Namespace = name, "gimbal-discovery"
	uc.CreationTimestamp = metav1.Unix(created, 0)
	uc.Spec.Kubernetes = &v1alpha1.KubernetesUpstream{KubeconfigSecret: v1alpha1.SecretKey{Name: name}}
	return uc
}

func TestAmbiguousLaterOneIsRejected(t *testing.T) {
	for name, tc := range map[string]struct {
		uc       v1alpha1.UpstreamCluster
		others   []v1alpha1.UpstreamCluster
		rejected bool
	}{
		"alone":                 {uc: upstreamNamed("prod", 1)},
		"itself in the list":    {uc: upstreamNamed("prod", 1), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod", 1)}},
		"unlike names":          {uc: upstreamNamed("prod", 2), others: []v1alpha1.UpstreamCluster{upstreamNamed("production", 1)}},
		"longer, later":         {uc: upstreamNamed("prod-us", 2), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod", 1)}, rejected: true},
		"longer, earlier":       {uc: upstreamNamed("prod-us", 1), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod", 2)}},
		"shorter, later":        {uc: upstreamNamed("prod", 2), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod-us", 1)}, rejected: true},
		"in the same second":    {uc: upstreamNamed("prod-us", 1), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod", 1)}, rejected: true},
		"in that second, first": {uc: upstreamNamed("prod", 1), others: []v1alpha1.UpstreamCluster{upstreamNamed("prod-us", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unambiguous(&tc.uc, tc.others); (got != nil) != tc.rejected {
				t.Errorf("rejection %v, want one: %v", got, tc.rejected)
			}
		})
	}
}

const usableKubeconfig = `
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443"}}]
users: [{name: u, user: {token: secret}}]
`

func TestAccept(t *testing.T) {
	secret := func(key, value string) *corev1.Secret {
		return &corev1.Secret{Data: map[string][]byte{key: []byte(value)}}
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.UpstreamClusterSpec)
		secret *corev1.Secret
		reason string
	}{
		"usable":           {secret: secret("kubeconfig", usableKubeconfig)},
		"no secret":        {reason: "SecretNotFound"},
		"no such key":      {secret: secret("config", usableKubeconfig), reason: "SecretNotFound"},
		"not a kubeconfig": {secret: secret("kubeconfig", "hello"), reason: "InvalidKubeconfig"},
		"no kind":          {secret: secret("kubeconfig", usableKubeconfig), reason: "InvalidSpec", change: func(s *v1alpha1.UpstreamClusterSpec) { s.Kubernetes = nil }},
		"bad CIDR":         {secret: secret("kubeconfig", usableKubeconfig), reason: "InvalidCIDR", change: func(s *v1alpha1.UpstreamClusterSpec) { s.AllowedCIDRs = []string{"10.0.0.0"} }},
		"bad selector": {secret: secret("kubeconfig", usableKubeconfig), reason: "InvalidSpec", change: func(s *v1alpha1.UpstreamClusterSpec) {
			s.ServiceSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}
		}},
		"bad staleAfter": {secret: secret("kubeconfig", usableKubeconfig), reason: "InvalidSpec", change: func(s *v1alpha1.UpstreamClusterSpec) { s.StaleAfter = "soon" }},
	} {
		t.Run(name, func(t *testing.T) {
			uc := upstreamNamed("us-east", 1)
			if tc.change != nil {
				tc.change(&uc.Spec)
			}
			_, err := Upstream(&uc, nil, tc.secret, policy(), Central{}, slog.New(slog.DiscardHandler))
			var rejected *upstream.Rejection
			if errors.As(err, &rejected) {
				if rejected.Reason != tc.reason {
					t.Errorf("reason %s (%v), want %s", rejected.Reason, err, tc.reason)
				}
			} else if err != nil || tc.reason != "" {
				t.Errorf("got %v, want reason %q", err, tc.reason)
			}
		})
	}
}

const usableClouds = `
clouds:
  os-1:
    auth: {auth_url: "https://10.0.0.1:5000/v3", application_credential_id: id, application_credential_secret: secret}
`

func TestAcceptOpenStack(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.UpstreamClusterSpec)
		data   map[string]string
		reason string
		says   string
	}{
		"usable":         {data: map[string]string{"clouds.yaml": usableClouds}},
		"another key":    {data: map[string]string{"c": usableClouds}, change: func(s *v1alpha1.UpstreamClusterSpec) { s.OpenStack.CloudsSecret.Key = "c" }},
		"no key":         {data: map[string]string{}, reason: "SecretNotFound", says: "spec.openstack.cloudsSecret.key"},
		"no CA":          {data: map[string]string{"clouds.yaml": usableClouds}, reason: "SecretNotFound", says: "caKey", change: func(s *v1alpha1.UpstreamClusterSpec) { s.OpenStack.CloudsSecret.CAKey = "ca.crt" }},
		"no certificate": {data: map[string]string{"clouds.yaml": usableClouds, "ca.crt": "x"}, reason: "InvalidClouds", says: "Secret os-1", change: func(s *v1alpha1.UpstreamClusterSpec) { s.OpenStack.CloudsSecret.CAKey = "ca.crt" }},
		"no clouds":      {data: map[string]string{"clouds.yaml": "hello"}, reason: "InvalidClouds"},
		"no such cloud":  {data: map[string]string{"clouds.yaml": usableClouds}, reason: "InvalidClouds", says: "os-2", change: func(s *v1alpha1.UpstreamClusterSpec) { s.OpenStack.CloudsSecret.Cloud = "os-2" }},
		"path":           {data: map[string]string{"clouds.yaml": usableClouds + "    cacert: /etc/ca.crt"}, reason: "FilePathRefused"},
		"odd poll interval": {data: map[string]string{"clouds.yaml": usableClouds}, reason: "InvalidSpec", says: "pollInterval", change: func(s *v1alpha1.UpstreamClusterSpec) {
			s.OpenStack.PollInterval = &metav1.Duration{Duration: time.Millisecond}
		}},
		"odd health interval": {data: map[string]string{"clouds.yaml": usableClouds}, reason: "InvalidSpec", says: "healthInterval", change: func(s *v1alpha1.UpstreamClusterSpec) {
			s.OpenStack.HealthInterval = &metav1.Duration{Duration: time.Millisecond}
		}},
		"two kinds": {data: map[string]string{"clouds.yaml": usableClouds}, reason: "InvalidSpec", says: "not both", change: func(s *v1alpha1.UpstreamClusterSpec) { s.Kubernetes = &v1alpha1.KubernetesUpstream{} }},
	} {
		t.Run(name, func(t *testing.T) {
			uc := upstreamNamed("os-1", 1)
			uc.Spec.Kubernetes = nil
			uc.Spec.OpenStack = &v1alpha1.OpenStackUpstream{CloudsSecret: v1alpha1.CloudsSecret{Name: "os-1"}}
			if tc.change != nil {
				tc.change(&uc.Spec)
			}
			secret := &corev1.Secret{Data: map[string][]byte{}}
			for k, v := range tc.data {
				secret.Data[k] = []byte(v)
			}
			_, err := Upstream(&uc, nil, secret, policy(), Central{}, slog.New(slog.DiscardHandler))
			var rejected *upstream.Rejection
			if errors.As(err, &rejected) {
				if rejected.Reason != tc.reason || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("reason %s (%v), want %s and %q", rejected.Reason, err, tc.reason, tc.says)
				}
			} else if err != nil || tc.reason != "" {
				t.Errorf("got %v, want reason %q", err, tc.reason)
			}
		})
	}
}

func TestFingerprint(t *testing.T) {
	uc := upstreamNamed("us-east", 1)
	base := fingerprint(uc.Spec, []byte("a"))
	paused := uc.Spec
	paused.Paused, paused.DeletionPolicy = true, v1alpha1.DeletionPolicyRetain
	if fingerprint(paused, []byte("a")) != base {
		t.Error("pausing or the deletion policy asks for a new agent")
	}
	narrowed := uc.Spec
	narrowed.AllowedCIDRs = []string{"10.0.0.0/8"}
	if fingerprint(narrowed, []byte("a")) == base || fingerprint(uc.Spec, []byte("b")) == base {
		t.Error("a changed spec or Secret doesn't ask for a new agent")
	}
}

func TestStaleAfter(t *testing.T) {
	for s, want := range map[string]time.Duration{"": 0, "never": 0, "90m": 90 * time.Minute} {
		if got, err := staleAfter(s); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	if _, err := staleAfter("30s"); err == nil {
		t.Error("30s is shorter than an upstream may be out of contact by chance")
	}
}

func TestFamilies(t *testing.T) {
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	for name, tc := range map[string]struct {
		spec  []v1alpha1.Family
		nodes []discoveryv1.AddressType
		want  []discoveryv1.AddressType
		note  string
	}{
		"no node is shown": {nil, nil, nil, ""},
		"nodes have one":   {nil, []discoveryv1.AddressType{v4}, []discoveryv1.AddressType{v4}, "no node of the central cluster has an IPv6 address"},
		"nodes have both":  {nil, []discoveryv1.AddressType{v4, v6}, []discoveryv1.AddressType{v4, v6}, ""},
		"the spec decides": {[]v1alpha1.Family{"IPv6"}, []discoveryv1.AddressType{v4}, []discoveryv1.AddressType{v6}, "spec.families"},
		"the spec is wide": {[]v1alpha1.Family{"IPv4", "IPv6"}, []discoveryv1.AddressType{v4}, []discoveryv1.AddressType{v4, v6}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			uc := upstreamNamed("us-east", 1)
			uc.Spec.Families = tc.spec
			c := Central{Families: tc.nodes}
			rules, err := Rules(&uc, policy(), c)
			note := FamiliesNote(&uc, c)
			if err != nil || !slices.Equal(rules.Families, tc.want) || (note == "") != (tc.note == "") || !strings.Contains(note, tc.note) {
				t.Errorf("%v %q, %v", rules.Families, note, err)
			}
		})
	}
}
