package kubernetes

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
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
	s.Spec.Ports[0].NodePort = nodePort
	s.Status.LoadBalancer.Ingress = ingress
	return s
}

// brief writes a Service as slice[address:port!,…], where "!" means not ready.
func brief(s *mirror.Service) string {
	var b strings.Builder
	for _, slice := range s.Slices {
		fmt.Fprintf(&b, "%s[", slice.Name)
		for i, e := range slice.Endpoints {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strings.Join(e.Addresses, "+"))
			if len(slice.Ports) > 0 {
				fmt.Fprintf(&b, ":%d", slice.Ports[0].Number)
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

func TestAddressing(t *testing.T) {
	const (
		pod, nodePort, balancer = v1alpha1.AddressingPod, v1alpha1.AddressingNodePort, v1alpha1.AddressingLoadBalancer
	)
	slice := newSlice("s", "a", "10.0.0.1", "10.0.0.2")
	slice.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}}
	slice.Endpoints[0].NodeName = ptr.To("n2")
	slice.Endpoints[1].NodeName = ptr.To("n1")
	slice.Endpoints[1].Conditions.Ready = ptr.To(false)
	unready := newSlice("s", "a", "10.0.0.1")
	unready.Endpoints[0].Conditions.Ready = ptr.To(false)
	n1, n2 := newNode("n1", "192.168.0.1", "fd00::1", "192.168.9.1"), newNode("n2", "192.168.0.2")
	local := typed("NodePort", 30080)
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	v4, v6, host := corev1.LoadBalancerIngress{IP: "203.0.113.7"}, corev1.LoadBalancerIngress{IP: "2001:db8::7"}, corev1.LoadBalancerIngress{Hostname: "lb.example"}
	for _, tt := range []struct {
		name    string
		mode    v1alpha1.Addressing
		objects []runtime.Object
		want    string
	}{
		{"pods", pod, []runtime.Object{newService("a"), slice}, "s[10.0.0.1:8080 10.0.0.2:8080!]"},
		{"several slices", pod, []runtime.Object{newService("a"), newSlice("z", "a", "10.0.0.9"), slice, newSlice("x", "b")}, "s[10.0.0.1:8080 10.0.0.2:8080!]z[10.0.0.9]"},
		{"no slices", pod, []runtime.Object{newService("a")}, ""},
		{"external name", pod, []runtime.Object{typed("ExternalName", 0)}, "refused ExternalName"},

		{"nodes", nodePort, []runtime.Object{typed("NodePort", 30080), slice, n2, n1},
			"a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080]a-nodeport-ipv6-0[fd00::1:30080]"},
		{"nodes of a load balancer", nodePort, []runtime.Object{typed("LoadBalancer", 30080), slice, n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		{"nodes without ready pods", nodePort, []runtime.Object{typed("NodePort", 30080), unready, n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},
		{"nodes without pods", nodePort, []runtime.Object{typed("NodePort", 30080), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},
		{"local nodes", nodePort, []runtime.Object{local, slice, n1, n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		{"no node port", nodePort, []runtime.Object{typed("ClusterIP", 0), slice, n1}, "refused NoNodePort"},
		{"no ports", nodePort, []runtime.Object{&corev1.Service{ObjectMeta: newService("a").ObjectMeta}}, "refused NoNodePort"},
		{"external name for nodes", nodePort, []runtime.Object{typed("ExternalName", 0)}, "refused ExternalName"},

		{"balancer", balancer, []runtime.Object{typed("LoadBalancer", 0, v6, v4, v4), slice},
			"a-loadbalancer-ipv4-0[203.0.113.7:80]a-loadbalancer-ipv6-0[2001:db8::7:80]"},
		{"balancer without ready pods", balancer, []runtime.Object{typed("LoadBalancer", 0, v4), unready}, "a-loadbalancer-ipv4-0[203.0.113.7:80!]"},
		{"balancer with a host name", balancer, []runtime.Object{typed("LoadBalancer", 0, host), slice}, " FQDNSlice"},
		{"balancer with both", balancer, []runtime.Object{typed("LoadBalancer", 0, host, v4), slice}, "a-loadbalancer-ipv4-0[203.0.113.7:80] FQDNSlice"},
		{"balancer to come", balancer, []runtime.Object{typed("LoadBalancer", 0), slice}, " NoLoadBalancer"},
		{"no balancer", balancer, []runtime.Object{typed("NodePort", 30080), slice}, "refused NoLoadBalancer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := address(t, tt.mode, tt.objects...)
			if got := brief(s); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
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

// A node that comes or goes changes one slice, and no slice has more than 100 endpoints.
func TestChunksAreStable(t *testing.T) {
	objects := []runtime.Object{typed("NodePort", 30080), newSlice("s", "a", "10.0.0.1")}
	for i := range 1000 {
		objects = append(objects, newNode(fmt.Sprintf("node-%d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)))
	}
	before := address(t, v1alpha1.AddressingNodePort, objects...).Slices
	after := address(t, v1alpha1.AddressingNodePort, append(objects, newNode("new", "10.2.0.1"))...).Slices
	if len(before) != len(after) {
		t.Fatalf("%d slices, then %d", len(before), len(after))
	}
	total, changed := 0, 0
	for i := range after {
		total += len(after[i].Endpoints)
		if len(after[i].Endpoints) > 100 {
			t.Errorf("%d endpoints in %s", len(after[i].Endpoints), after[i].Name)
		}
		if !reflect.DeepEqual(before[i], after[i]) {
			changed++
		}
	}
	if total != 1001 || changed != 1 {
		t.Errorf("%d endpoints, %d slices changed", total, changed)
	}
}

func TestNodesChangeNodePortServices(t *testing.T) {
	f := newFake(t)
	o := f.options(t)
	o.Addressing = v1alpha1.AddressingNodePort
	cluster := newService("plain")
	exposed := newService("a")
	exposed.Spec.Type = corev1.ServiceTypeNodePort
	exposed.Spec.Ports[0].NodePort = 30080
	n := newNode("n", "192.168.0.1")
	n.TypeMeta = kindsOf["nodes"]
	f.put(cluster, exposed, n)
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	busy := n.DeepCopy()
	busy.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	f.put(busy)
	down := n.DeepCopy()
	down.Status.Conditions[0].Status = corev1.ConditionFalse
	f.put(down)
	r.Wait(t, "change", func(got upstreamtest.Reports) bool { return len(got.Changed) > 0 })
	if !reflect.DeepEqual(r.Seen().Changed, []mirror.Key{key("a")}) {
		t.Errorf("changed %v", r.Seen().Changed)
	}
	if a, _ := s.Service(key("a")); len(a.Slices) > 0 {
		t.Errorf("a is %s", brief(a))
	}
}
