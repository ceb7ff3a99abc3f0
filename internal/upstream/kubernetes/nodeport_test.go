package kubernetes

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func families(s *corev1.Service, list ...corev1.IPFamily) *corev1.Service {
	s.Spec.IPFamilies = list
	return s
}

func local(s *corev1.Service) *corev1.Service {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	return s
}

// external gives a node an ExternalIP.
func external(n *corev1.Node, ip string) *corev1.Node {
	n.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: ip}}, n.Status.Addresses...)
	return n
}

// A Service is addressed by what the kube-proxies of the upstream open for it, and no more.
func TestAddressingOfNodes(t *testing.T) {
	const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol
	service := func() *corev1.Service { return typed("NodePort", 30080) }
	pods := func() *discoveryv1.EndpointSlice {
		return on(ported(newSlice("s", "a", "10.0.0.1", "10.0.0.2")), "n2", "n1")
	}
	pods6 := func() *discoveryv1.EndpointSlice {
		return on(ported(ofFamily(newSlice("s6", "a", "fd01::1", "fd01::2"), discoveryv1.AddressTypeIPv6)), "n2", "n1")
	}
	n1, n2 := newNode("n1", "192.168.0.1", "fd00::1", "192.168.9.1"), newNode("n2", "192.168.0.2")
	legacy := families(service())
	legacy.Spec.ClusterIP = "fd02::1"
	uninitialized := newNode("n4")
	uninitialized.Spec.Taints = []corev1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized", Effect: corev1.TaintEffectNoSchedule}}
	half := service()
	half.Spec.Ports = append(half.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 81})
	otherProtocol := pods()
	otherProtocol.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
	testAddressing(t, v1alpha1.AddressingNodePort, map[string]addressed{
		"every node":       {[]runtime.Object{service(), pods(), n2, n1}, "a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080]"},
		"a load balancer":  {[]runtime.Object{typed("LoadBalancer", 30080), pods(), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		"of no pods":       {[]runtime.Object{service(), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},
		"of no ready pods": {[]runtime.Object{service(), unready(unready(pods(), 0), 1), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},

		// kube-proxy opens a node port for each family of the Service, and refuses it where no pod of the family is ready.
		"single-stack, IPv6":                {[]runtime.Object{families(service(), v6), pods6(), n1}, "a-nodeport-ipv6-0[fd00::1:30080]"},
		"dual-stack":                        {[]runtime.Object{families(service(), v6, v4), pods(), pods6(), n1}, "a-nodeport-ipv4-0[192.168.0.1:30080]a-nodeport-ipv6-0[fd00::1:30080]"},
		"dual-stack, pods of one":           {[]runtime.Object{families(service(), v4, v6), pods(), n1}, "a-nodeport-ipv4-0[192.168.0.1:30080]a-nodeport-ipv6-0[fd00::1:30080!]"},
		"dual-stack, a node of one":         {[]runtime.Object{families(service(), v4, v6), pods(), pods6(), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		"families are older than the field": {[]runtime.Object{legacy, pods6(), n1}, "a-nodeport-ipv6-0[fd00::1:30080]"},
		"no cluster IP":                     {[]runtime.Object{families(service()), pods(), n1}, "refused NoNodePort"},

		// Serving pods that end are used as long as there are no others (KEP-1669).
		"the last pods end":        {[]runtime.Object{service(), leaving(pods(), true), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		"the last pods have ended": {[]runtime.Object{service(), leaving(pods(), false), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},
		"Local":                    {[]runtime.Object{local(service()), unready(pods(), 1), n1, n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		"Local, a node's last pod ends": {[]runtime.Object{local(service()), on(ported(newSlice("s", "a", "10.0.0.1")), "n2"),
			leaving(on(ported(newSlice("t", "a", "10.0.0.2")), "n1"), true), n1, n2}, "a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080]"},
		"Local, no pods": {[]runtime.Object{local(service()), n1}, ""},

		// Older slices have no condition serving: it is true unless it is said not to be.
		"serving isn't said": {[]runtime.Object{service(), func() runtime.Object {
			s := leaving(pods(), true)
			s.Endpoints[0].Conditions.Serving = nil
			return s
		}(), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},

		// The address is that of kube-proxy's --nodeport-addresses=primary: an internal one before an external one.
		"an external address":           {[]runtime.Object{service(), pods(), external(newNode("n3"), "198.51.100.3")}, "a-nodeport-ipv4-0[198.51.100.3:30080]"},
		"an internal address is better": {[]runtime.Object{service(), pods(), external(newNode("n3", "192.168.0.3"), "198.51.100.3")}, "a-nodeport-ipv4-0[192.168.0.3:30080]"},
		"no address":                    {[]runtime.Object{service(), pods(), n2, newNode("n3")}, "a-nodeport-ipv4-0[192.168.0.2:30080] NoNodeAddress"},
		"no address of the family":      {[]runtime.Object{families(service(), v6), pods6(), n2}, " NoNodeAddress"},
		"no address yet":                {[]runtime.Object{service(), pods(), n2, uninitialized}, "a-nodeport-ipv4-0[192.168.0.2:30080]"},
		"Local, no address elsewhere":   {[]runtime.Object{local(service()), pods(), n1, n2, newNode("n3")}, "a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080]"},

		"no node port":              {[]runtime.Object{typed("ClusterIP", 0), pods(), n1}, "refused NoNodePort"},
		"no node port for one port": {[]runtime.Object{half, pods(), n2}, "a-nodeport-ipv4-0[192.168.0.2:30080] NoNodePort"},
		"no ports":                  {[]runtime.Object{&corev1.Service{ObjectMeta: newService("a").ObjectMeta}}, "refused NoNodePort"},
		"pods of another protocol":  {[]runtime.Object{service(), otherProtocol, n2}, "a-nodeport-ipv4-0[192.168.0.2:30080!]"},
		"external name":             {[]runtime.Object{typed("ExternalName", 0)}, "refused ExternalName"},
	})
}

// kube-proxy chooses among the endpoints that have the port: the pods of a Service need not all have every port.
func TestPortsOfSomePods(t *testing.T) {
	service := typed("NodePort", 30080)
	service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 81, NodePort: 30081})
	both := on(ported(newSlice("s", "a", "10.0.0.1")), "n1")
	both.Ports = append(both.Ports, discoveryv1.EndpointPort{Name: ptr.To("admin"), Port: ptr.To[int32](8081), Protocol: ptr.To(corev1.ProtocolTCP)})
	one := on(ported(newSlice("t", "a", "10.0.0.2")), "n2")
	n1, n2 := newNode("n1", "192.168.0.1"), newNode("n2", "192.168.0.2")
	testAddressing(t, v1alpha1.AddressingNodePort, map[string]addressed{
		"Cluster":                      {[]runtime.Object{service, both, one, n1, n2}, "a-nodeport-ipv4-0[192.168.0.1:30080:30081 192.168.0.2:30080:30081]"},
		"Cluster, no pod has a port":   {[]runtime.Object{service, one, n1}, "a-nodeport-ipv4-0[192.168.0.1:30080]a-nodeport.admin-ipv4-0[192.168.0.1:30081!]"},
		"Local, not all nodes have it": {[]runtime.Object{local(service.DeepCopy()), both, one, n1, n2}, "a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080]a-nodeport.admin-ipv4-0[192.168.0.1:30081]"},
	})
}

// A node that comes or goes changes one slice, and no slice has more than 100 endpoints.
func TestChunksAreStable(t *testing.T) {
	objects := []runtime.Object{typed("NodePort", 30080), ported(newSlice("s", "a", "10.0.0.1"))}
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
	exposed := typed("NodePort", 30080)
	n := newNode("n", "192.168.0.1")
	n.TypeMeta = kindsOf["nodes"]
	f.put(cluster, exposed, n)
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	busy := n.DeepCopy()
	busy.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	f.put(busy)
	silent := n.DeepCopy()
	silent.Status.Conditions[0].Status = corev1.ConditionUnknown
	f.put(silent)
	leaving := silent.DeepCopy()
	leaving.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
	f.put(leaving)
	r.Wait(t, "change", func(got upstreamtest.Reports) bool { return len(got.Changed) > 0 })
	if !reflect.DeepEqual(r.Seen().Changed, []mirror.Key{key("a")}) {
		t.Errorf("changed %v", r.Seen().Changed)
	}
	if a, _ := s.Service(key("a")); len(a.Slices) > 0 {
		t.Errorf("a is %s", brief(a))
	}
}

// Kubelets that lose their API server leave every node NotReady, whose kube-proxies
// forward on: load balancers don't take such nodes out (KEP-3458), and nor does Gimbal.
func TestKubeletsLoseTheirAPIServer(t *testing.T) {
	f := newFake(t)
	o := f.options(t)
	o.Addressing = v1alpha1.AddressingNodePort
	exposed := typed("NodePort", 30080)
	n1, n2 := newNode("n1", "192.168.0.1"), newNode("n2", "192.168.0.2")
	n1.TypeMeta, n2.TypeMeta = kindsOf["nodes"], kindsOf["nodes"]
	f.put(exposed, on(ported(newSlice("s", "a", "10.0.0.1")), "n1"), n1, n2)
	s, r := run(t, o)
	r.WaitFor(t, upstreamtest.Complete)
	for _, n := range []*corev1.Node{n1, n2} {
		silent := n.DeepCopy()
		silent.Status.Conditions[0].Status = corev1.ConditionUnknown
		silent.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
		f.put(silent)
	}
	last := newNode("n3", "192.168.0.3")
	last.TypeMeta = kindsOf["nodes"]
	f.put(last)
	r.Wait(t, "change", func(got upstreamtest.Reports) bool { return len(got.Changed) > 0 })
	const want = "a-nodeport-ipv4-0[192.168.0.1:30080 192.168.0.2:30080 192.168.0.3:30080]"
	if a, _ := s.Service(key("a")); brief(a) != want {
		t.Errorf("a is %s, want %s", brief(a), want)
	}
}

func TestNode(t *testing.T) {
	good := func() *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "z"}},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeHostName, Address: "n"}, {Type: corev1.NodeExternalIP, Address: "192.0.2.1"},
					{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "fd00::1"},
				},
			},
		}
	}
	if got, want := (converter{}).node(good()), (&node{ipv4: "10.0.0.1", ipv6: "fd00::1", zone: "z"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	const exclude, autoscaler = corev1.LabelNodeExcludeBalancers, "ToBeDeletedByClusterAutoscaler"
	for name, tc := range map[string]struct {
		change func(*corev1.Node)
		kept   bool
	}{
		"not ready": {func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}, true},
		"cordoned":     {func(n *corev1.Node) { n.Spec.Unschedulable = true }, true},
		"deleted":      {func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, false},
		"on its way":   {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: autoscaler}} }, false},
		"excluded":     {func(n *corev1.Node) { n.Labels[exclude] = "" }, false},
		"excluded too": {func(n *corev1.Node) { n.Labels[exclude] = "true" }, false},
		"included":     {func(n *corev1.Node) { n.Labels[exclude] = "false" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := good()
			tc.change(n)
			if got := (converter{}).node(n); (got != nil) != tc.kept {
				t.Errorf("kept: %v", got)
			}
		})
	}
}
