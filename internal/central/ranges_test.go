package central_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
)

func node(name string, podCIDR string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: []string{podCIDR}}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func serviceCIDR(cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
}

func reader(t *testing.T, cluster *centraltest.Cluster) client.Reader {
	t.Helper()
	c, err := client.New(cluster.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRangesAreThoseThatTheClusterShows(t *testing.T) {
	for name, tc := range map[string]struct {
		shown    []runtime.Object
		prefixes string
		families string
	}{
		"nothing":       {prefixes: "[]", families: "[]"},
		"Services":      {[]runtime.Object{serviceCIDR("10.96.0.0/12", "fd00::/108")}, "[10.96.0.0/12 fd00::/108]", "[]"},
		"a node":        {[]runtime.Object{node("a", "10.244.0.0/24", "192.0.2.1")}, "[10.244.0.0/24 192.0.2.1/32]", "[IPv4]"},
		"two families":  {[]runtime.Object{node("a", "10.244.0.0/24", "192.0.2.1", "2001:db8::1")}, "[10.244.0.0/24 192.0.2.1/32 2001:db8::1/128]", "[IPv4 IPv6]"},
		"nodes alike":   {[]runtime.Object{node("a", "10.244.0.0/24", "192.0.2.1"), node("b", "10.244.0.0/24", "192.0.2.1")}, "[10.244.0.0/24 192.0.2.1/32]", "[IPv4]"},
		"nothing valid": {[]runtime.Object{node("a", "ten", "host.example"), serviceCIDR("10.0.0.0")}, "[]", "[]"},
		"IPv4 in IPv6":  {[]runtime.Object{serviceCIDR("::ffff:10.96.0.0/108", "::ffff:0.0.0.0/90")}, "[10.96.0.0/12]", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := centraltest.New(t)
			cluster.Add(t, tc.shown...)
			r := central.NewRanges(nil)
			if err := r.Read(t.Context(), reader(t, cluster)); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(r.Prefixes()); got != tc.prefixes {
				t.Errorf("ranges %s, want %s", got, tc.prefixes)
			}
			if got := fmt.Sprint(r.Families()); got != tc.families {
				t.Errorf("families %s, want %s", got, tc.families)
			}
		})
	}
}

func TestReadingRanges(t *testing.T) {
	old := centraltest.New(t)
	old.Without("servicecidrs") // before Kubernetes 1.33
	old.Add(t, node("a", "10.244.0.0/24"))
	r := central.NewRanges(nil)
	if err := r.Read(t.Context(), reader(t, old)); err != nil || len(r.Prefixes()) != 1 {
		t.Errorf("without ServiceCIDRs: %v, %v", r.Prefixes(), err)
	}
	for _, resource := range []string{"servicecidrs", "nodes"} {
		cluster := centraltest.New(t)
		cluster.Inject(func(_ context.Context, r centraltest.Request) error {
			if r.Resource == resource {
				return apierrors.NewInternalError(errors.New("etcd has no leader"))
			}
			return nil
		})
		if err := central.NewRanges(nil).Read(t.Context(), reader(t, cluster)); err == nil {
			t.Errorf("%s can't be read, which is no error", resource)
		}
	}
}

func TestRangesTellOfChangesAlone(t *testing.T) {
	changes := 0
	r := central.NewRanges(func() { changes++ })
	h := r.Handler()
	steps := []struct {
		name string
		do   func()
		news bool
	}{
		{"a node comes", func() { h.OnAdd(node("a", "10.244.0.0/24", "192.0.2.1"), false) }, true},
		{"a heartbeat", func() { h.OnUpdate(nil, node("a", "10.244.0.0/24", "192.0.2.1")) }, false},
		{"a node that shows the same", func() { h.OnAdd(node("b", "10.244.0.0/24", "192.0.2.1"), false) }, false},
		{"another address", func() { h.OnUpdate(nil, node("a", "10.244.0.0/24", "192.0.2.2")) }, true},
		{"the Services' range", func() { h.OnAdd(serviceCIDR("10.96.0.0/12"), false) }, true},
		{"something else", func() { h.OnAdd(&corev1.Secret{}, false) }, false},
		{"a node goes", func() { h.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: node("a", "", "")}) }, true},
		{"it goes again", func() { h.OnDelete(node("a", "", "")) }, false},
	}
	for _, step := range steps {
		before := changes
		if step.do(); changes > before != step.news {
			t.Errorf("%s: told %d times, want news: %v", step.name, changes-before, step.news)
		}
	}
	if got, want := fmt.Sprint(r.Prefixes()), "[10.96.0.0/12 10.244.0.0/24 192.0.2.1/32]"; got != want {
		t.Errorf("ranges %s, want %s", got, want)
	}
}

func TestTrimNodeKeepsWhatRangesRead(t *testing.T) {
	n := node("a", "10.244.0.0/24", "192.0.2.1")
	n.Labels = map[string]string{"x": "y"}
	o, err := central.TrimNode(n)
	if trimmed, ok := o.(*corev1.Node); err != nil || !ok || trimmed.Name != "a" || trimmed.Labels != nil ||
		len(trimmed.Spec.PodCIDRs) != 1 || len(trimmed.Status.Addresses) != 1 {
		t.Errorf("trimmed to %v, %v", o, err)
	}
	if o, err := central.TrimNode("gone"); o != "gone" || err != nil {
		t.Errorf("what isn't a node became %v, %v", o, err)
	}
}

func TestNamespaces(t *testing.T) {
	n := central.NewNamespaces()
	steps := []struct {
		name        string
		there, news bool
	}{{"comes", true, true}, {"is", true, false}, {"goes", false, true}, {"is gone", false, false}}
	for _, step := range steps {
		if news := n.Set("team-a", step.there); news != step.news || n.Has("team-a") != step.there {
			t.Errorf("it %s: news %v, there %v", step.name, news, n.Has("team-a"))
		}
	}
}

func TestProtobufHasNoRateLimit(t *testing.T) {
	base := &rest.Config{Host: "central"}
	c := central.Protobuf(base)
	if c.QPS >= 0 || c.ContentType != runtime.ContentTypeProtobuf || base.ContentType != "" {
		t.Errorf("made %+v of %+v", c, base)
	}
}
