package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// address puts objects into an inventory and returns the Service a.
func address(t *testing.T, a v1alpha1.Addressing, objects ...runtime.Object) *mirror.Service {
	t.Helper()
	inv := newInventory()
	c := converter{addressing: a}
	for _, o := range objects {
		i, err := c.item(o)
		if err != nil {
			t.Fatal(err)
		}
		resource, _ := resourceOf(o)
		inv.put(map[string]kind{"services": services, "endpointslices": endpointSlices, "nodes": nodes}[resource], i.key, i.row)
	}
	s, ok := inv.service(key("a"), a)
	if !ok {
		t.Fatal("no Service a")
	}
	return s
}

func newNode(name string, ips ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, ip := range ips {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return n
}

func typed(kind corev1.ServiceType, nodePort int32, ingress ...corev1.LoadBalancerIngress) *corev1.Service {
	s := newService("a")
	s.Spec.Type = kind
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	s.Spec.Ports[0].NodePort = nodePort
	s.Status.LoadBalancer.Ingress = ingress
	return s
}

// brief writes a Service as slice[address:port:port! …], where "!" means not ready.
func brief(s *mirror.Service) string {
	var b strings.Builder
	for _, slice := range s.Slices {
		fmt.Fprintf(&b, "%s[", slice.Name)
		for i, e := range slice.Endpoints {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strings.Join(e.Addresses, "+"))
			for _, p := range slice.Ports {
				fmt.Fprintf(&b, ":%d", p.Number)
			}
			if !e.Ready {
				b.WriteByte('!')
			}
			if e.Ready != e.Serving {
				b.WriteByte('?')
			}
		}
		b.WriteByte(']')
	}
	if s.Refused {
		b.WriteString("refused")
	}
	for _, r := range s.Refusals {
		b.WriteString(" " + string(r.Reason))
	}
	return b.String()
}

// ported gives a slice the port http.
func ported(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}}
	return s
}

// on places the endpoints of a slice on nodes.
func on(s *discoveryv1.EndpointSlice, nodes ...string) *discoveryv1.EndpointSlice {
	for i, n := range nodes {
		s.Endpoints[i].NodeName = ptr.To(n)
	}
	return s
}

// leaving makes the endpoints of a slice those of pods that end: still serving, or no longer.
func leaving(s *discoveryv1.EndpointSlice, serving bool) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		s.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: &serving, Terminating: ptr.To(true)}
	}
	return s
}

func unready(s *discoveryv1.EndpointSlice, endpoint int) *discoveryv1.EndpointSlice {
	s.Endpoints[endpoint].Conditions.Ready = ptr.To(false)
	return s
}

func ofFamily(s *discoveryv1.EndpointSlice, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s.AddressType = family
	return s
}

func TestAddressingOfPods(t *testing.T) {
	slice := ported(unready(newSlice("s", "a", "10.0.0.1", "10.0.0.2"), 1))
	testAddressing(t, v1alpha1.AddressingPod, map[string]addressed{
		"pods":           {[]runtime.Object{newService("a"), slice}, "s[10.0.0.1:8080 10.0.0.2:8080!]"},
		"several slices": {[]runtime.Object{newService("a"), newSlice("z", "a", "10.0.0.9"), slice, newSlice("x", "b")}, "s[10.0.0.1:8080 10.0.0.2:8080!]z[10.0.0.9]"},
		"no slices":      {[]runtime.Object{newService("a")}, ""},
		"external name":  {[]runtime.Object{typed("ExternalName", 0)}, "refused ExternalName"},
	})
}

func TestAddressingOfLoadBalancers(t *testing.T) {
	slice := newSlice("s", "a", "10.0.0.1")
	v4, v6, host := corev1.LoadBalancerIngress{IP: "203.0.113.7"}, corev1.LoadBalancerIngress{IP: "2001:db8::7"}, corev1.LoadBalancerIngress{Hostname: "lb.example"}
	testAddressing(t, v1alpha1.AddressingLoadBalancer, map[string]addressed{
		"two families":       {[]runtime.Object{typed("LoadBalancer", 0, v6, v4, v4), slice}, "a-loadbalancer-ipv4-0[203.0.113.7:80]a-loadbalancer-ipv6-0[2001:db8::7:80]"},
		"without ready pods": {[]runtime.Object{typed("LoadBalancer", 0, v4), unready(newSlice("s", "a", "10.0.0.1"), 0)}, "a-loadbalancer-ipv4-0[203.0.113.7:80!]"},
		"the last pod ends":  {[]runtime.Object{typed("LoadBalancer", 0, v4), leaving(newSlice("s", "a", "10.0.0.1"), true)}, "a-loadbalancer-ipv4-0[203.0.113.7:80]"},
		"a host name":        {[]runtime.Object{typed("LoadBalancer", 0, host), slice}, " FQDNSlice"},
		"both":               {[]runtime.Object{typed("LoadBalancer", 0, host, v4), slice}, "a-loadbalancer-ipv4-0[203.0.113.7:80] FQDNSlice"},
		"to come":            {[]runtime.Object{typed("LoadBalancer", 0), slice}, " NoLoadBalancer"},
		"no balancer":        {[]runtime.Object{typed("NodePort", 30080), slice}, "refused NoLoadBalancer"},
	})
}

// addressed is an upstream's objects and what becomes of the Service a, in brief.
type addressed struct {
	objects []runtime.Object
	want    string
}

func testAddressing(t *testing.T, mode v1alpha1.Addressing, cases map[string]addressed) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := address(t, mode, tc.objects...)
			if got := brief(s); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if s.Refused && len(s.Ports)+len(s.Slices) > 0 {
				t.Error("a refused Service has content")
			}
			for _, r := range s.Refusals {
				if r.Key != key("a") || r.Message == "" {
					t.Errorf("refusal %+v", r)
				}
			}
		})
	}
}
