package kubernetes

import (
	"encoding/json"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestConditions(t *testing.T) {
	yes, no := ptr.To(true), ptr.To(false)
	for _, tt := range []struct {
		conditions                  discoveryv1.EndpointConditions
		ready, serving, terminating bool
	}{
		{discoveryv1.EndpointConditions{}, true, true, false},
		{discoveryv1.EndpointConditions{Ready: yes}, true, true, false},
		{discoveryv1.EndpointConditions{Ready: no}, false, false, false},
		{discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}, false, true, true},
		{discoveryv1.EndpointConditions{Ready: yes, Serving: no}, true, false, false},
	} {
		s := newSlice("s", "a", "10.0.0.1")
		s.Endpoints[0].Conditions = tt.conditions
		e := content(s).Endpoints[0]
		if e.Ready != tt.ready || e.Serving != tt.serving || e.Terminating != tt.terminating {
			t.Errorf("%v became %+v", tt.conditions, e)
		}
	}
}

func TestContent(t *testing.T) {
	s := newSlice("s", "a", "10.0.0.1", "10.0.0.2")
	udp := corev1.ProtocolUDP
	s.Ports = []discoveryv1.EndpointPort{
		{},
		{Name: ptr.To("dns"), Protocol: &udp, Port: ptr.To[int32](5353), AppProtocol: ptr.To("x")},
	}
	s.Endpoints[1].Zone = ptr.To("z")
	s.Endpoints[1].Hostname = ptr.To("h")
	s.Endpoints[1].NodeName = ptr.To("n")
	want := mirror.Slice{
		Name: "s", AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []mirror.Port{
			{Protocol: corev1.ProtocolTCP},
			{Name: "dns", Number: 5353, Protocol: udp, AppProtocol: "x"},
		},
		Endpoints: []mirror.Endpoint{
			{Addresses: []string{"10.0.0.1"}, Ready: true, Serving: true},
			{Addresses: []string{"10.0.0.2"}, Hostname: "h", Zone: "z", Ready: true, Serving: true},
		},
	}
	if got := content(s); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestServiceKeepsLittle(t *testing.T) {
	o := newService("a")
	o.Labels = map[string]string{"app": "a"}
	o.Annotations = map[string]string{"projectcontour.io/upstream-protocol.h2": "http", "x/big": "y"}
	o.Spec.Ports[0].AppProtocol = ptr.To("kubernetes.io/h2c")
	o.Spec.Ports[0].NodePort = 30000
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	want := &service{
		labels:      map[string]string{"app": "a"},
		annotations: map[string]string{"projectcontour.io/upstream-protocol.h2": "http"},
		ports:       []mirror.Port{{Name: "http", Number: 80, Protocol: corev1.ProtocolTCP, AppProtocol: "kubernetes.io/h2c"}},
	}
	if got := (converter{addressing: v1alpha1.AddressingPod}).service(o); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestSelection(t *testing.T) {
	c := converter{selection: mirror.Selection{Exclude: []string{"kube-system"}}}
	apiServer := newService("kubernetes")
	apiServer.Namespace = "default"
	system := newSlice("s", "dns")
	system.Namespace = "kube-system"
	orphan := newSlice("s", "")
	if c.service(apiServer) != nil || c.slice(system) != nil || c.slice(orphan) != nil || c.service(newService("a")) == nil {
		t.Error("the selection isn't heeded")
	}
}

// Whatever an upstream sends is converted and addressed without a panic, and takes
// from the budget exactly what it gives back.
func FuzzConvert(f *testing.F) {
	for _, o := range []any{newService("a"), newSlice("s", "a", "10.0.0.1")} {
		b, _ := json.Marshal(o)
		f.Add(b, b, b)
	}
	f.Add([]byte(`{"metadata":{"name":"a"},"spec":{"type":"LoadBalancer","ports":[{"nodePort":1}]},"status":{"loadBalancer":{"ingress":[{"ip":"::1"},{"hostname":"h"},{}]}}}`),
		[]byte(`{"metadata":{"labels":{"kubernetes.io/service-name":"a"}},"endpoints":[{},{"nodeName":"n","conditions":{"ready":null}}],"ports":[{}]}`),
		[]byte(`{"metadata":{"name":"n"},"status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"x"}]}}`))
	f.Add([]byte(`{"metadata":{"namespace":"default","name":"kubernetes","uid":"u"},"spec":{"type":"NodePort","clusterIP":"::","ports":[{"nodePort":1}]}}`),
		[]byte(`{"metadata":{"namespace":"default","labels":{"kubernetes.io/service-name":"kubernetes"}},"endpoints":[{"nodeName":"n"}],"ports":[{"port":1}]}`),
		[]byte(`{"metadata":{"name":"n"},"status":{"addresses":[{"type":"ExternalIP","address":"::1"}]}}`))
	f.Add([]byte(`{"metadata":{"name":"a"},"spec":{"type":"NodePort","ipFamilies":["IPv4","IPv6"],"externalTrafficPolicy":"Local","ports":[{"name":"a","nodePort":1},{"name":"b","nodePort":2},{"name":"c"}]}}`),
		[]byte(`{"metadata":{"labels":{"kubernetes.io/service-name":"a"}},"addressType":"IPv4","endpoints":[{"nodeName":"n"}],"ports":[{"name":"a","port":1}]}`),
		[]byte(`{"metadata":{"name":"n","labels":{"node.kubernetes.io/exclude-from-external-load-balancers":"x"}},"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler"}]}}`))
	f.Fuzz(func(t *testing.T, serviceJSON, sliceJSON, nodeJSON []byte) {
		var (
			service corev1.Service
			slice   discoveryv1.EndpointSlice
			node    corev1.Node
		)
		if json.Unmarshal(serviceJSON, &service) != nil || json.Unmarshal(sliceJSON, &slice) != nil || json.Unmarshal(nodeJSON, &node) != nil {
			t.Skip()
		}
		for _, a := range []v1alpha1.Addressing{v1alpha1.AddressingPod, v1alpha1.AddressingNodePort, v1alpha1.AddressingLoadBalancer} {
			c := converter{addressing: a}
			inv := newInventory()
			items := map[kind]*item{}
			items[services], _ = c.item(&service)
			items[endpointSlices], _ = c.item(&slice)
			items[nodes], _ = c.item(&node)
			for k, i := range items {
				inv.put(k, i.key, i.row)
			}
			for _, key := range inv.serviceKeys() {
				inv.service(key, a)
			}
			for k, i := range items {
				inv.put(k, i.key, nil)
			}
			if inv.used != [kinds]size{} || len(inv.byService) > 0 {
				t.Fatalf("left over: %v %v", inv.used, inv.byService)
			}
		}
	})
}
