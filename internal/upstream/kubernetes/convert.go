package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// annotationPrefix is that of the only annotations that have a meaning in the tier.
const annotationPrefix = "projectcontour.io/"

// item is what is kept of an upstream object. It passes through the reflector in the object's place.
type item struct {
	key             mirror.Key
	resourceVersion string
	row             row // nil where the object isn't selected
}

func (i *item) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: i.key.Namespace, Name: i.key.Name, ResourceVersion: i.resourceVersion}
}

func (i *item) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns i itself: items aren't changed.
func (i *item) DeepCopyObject() runtime.Object { return i }

// row is the content of an upstream object. Rows are compared as a whole and never changed.
type row interface{ size() size }

// size is what a row takes of an upstream's budget.
type size struct{ objects, endpoints, bytes int }

func (s size) plus(t size) size {
	return size{s.objects + t.objects, s.endpoints + t.endpoints, s.bytes + t.bytes}
}

func (s size) minus(t size) size {
	return s.plus(size{-t.objects, -t.endpoints, -t.bytes})
}

// service is what is kept of a Service.
type service struct {
	labels, annotations map[string]string
	kind                corev1.ServiceType
	ports               []mirror.Port
	nodePorts           []int32  // one per port; kept for NodePort addressing
	local               bool     // externalTrafficPolicy: Local; kept for NodePort addressing
	ips, hostnames      []string // of the load balancer; kept for LoadBalancer addressing
}

func (s *service) size() size {
	n := 256
	for k, v := range s.labels {
		n += 32 + len(k) + len(v)
	}
	for k, v := range s.annotations {
		n += 32 + len(k) + len(v)
	}
	for _, p := range s.ports {
		n += 56 + len(p.Name) + len(p.Protocol) + len(p.AppProtocol)
	}
	return size{objects: 1, bytes: n + length(s.ips) + length(s.hostnames)}
}

// slice is what is kept of an EndpointSlice.
type slice struct {
	name    string
	service mirror.Key   // of the label kubernetes.io/service-name
	content mirror.Slice // Pod addressing
	ready   bool         // some endpoint is; other addressing
	nodes   []string     // those of ready endpoints, sorted; NodePort addressing
}

func (s *slice) size() size {
	n := 192 + len(s.service.Name) + len(s.name) + length(s.nodes)
	for _, p := range s.content.Ports {
		n += 56 + len(p.Name) + len(p.Protocol) + len(p.AppProtocol)
	}
	for _, e := range s.content.Endpoints {
		n += 64 + len(e.Hostname) + len(e.Zone) + length(e.Addresses)
	}
	return size{1, max(len(s.content.Endpoints), len(s.nodes)), n}
}

// node is what is kept of a Node: nothing of one that takes no traffic.
type node struct {
	ips  []string
	zone string
}

func (n *node) size() size { return size{objects: 1, bytes: 128 + len(n.zone) + length(n.ips)} }

func length(list []string) int {
	n := 0
	for _, s := range list {
		n += 16 + len(s)
	}
	return n
}

// converter makes items of upstream objects.
type converter struct {
	addressing v1alpha1.Addressing
	selection  mirror.Selection
}

func (c converter) item(o runtime.Object) (*item, error) {
	switch o := o.(type) {
	case *corev1.Service:
		return newItem(&o.ObjectMeta, c.service(o)), nil
	case *discoveryv1.EndpointSlice:
		return newItem(&o.ObjectMeta, c.slice(o)), nil
	case *corev1.Node:
		return newItem(&o.ObjectMeta, c.node(o)), nil
	}
	return nil, fmt.Errorf("the upstream sent a %T", o)
}

func newItem(m *metav1.ObjectMeta, r row) *item {
	return &item{mirror.Key{Namespace: m.Namespace, Name: m.Name}, m.ResourceVersion, r}
}

func (c converter) service(o *corev1.Service) row {
	if !c.selection.Service(mirror.Key{Namespace: o.Namespace, Name: o.Name}, o.Labels) {
		return nil
	}
	s := &service{labels: o.Labels, kind: o.Spec.Type}
	for k, v := range o.Annotations {
		if strings.HasPrefix(k, annotationPrefix) {
			if s.annotations == nil {
				s.annotations = make(map[string]string)
			}
			s.annotations[k] = v
		}
	}
	for _, p := range o.Spec.Ports {
		s.ports = append(s.ports, mirror.Port{
			Name: p.Name, Number: p.Port, Protocol: protocol(&p.Protocol), AppProtocol: value(p.AppProtocol),
		})
	}
	switch c.addressing {
	case v1alpha1.AddressingNodePort:
		for _, p := range o.Spec.Ports {
			s.nodePorts = append(s.nodePorts, p.NodePort)
		}
		s.local = o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	case v1alpha1.AddressingLoadBalancer:
		for _, i := range o.Status.LoadBalancer.Ingress {
			if i.IP != "" {
				s.ips = append(s.ips, i.IP)
			} else if i.Hostname != "" {
				s.hostnames = append(s.hostnames, i.Hostname)
			}
		}
		slices.Sort(s.ips)
		s.ips = slices.Compact(s.ips)
	}
	return s
}

func (c converter) slice(o *discoveryv1.EndpointSlice) row {
	name := o.Labels[discoveryv1.LabelServiceName]
	if name == "" || !c.selection.Namespace(o.Namespace) {
		return nil
	}
	s := &slice{name: o.Name, service: mirror.Key{Namespace: o.Namespace, Name: name}}
	if c.addressing == v1alpha1.AddressingPod {
		s.content = content(o)
		return s
	}
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		s.ready = true
		if c.addressing == v1alpha1.AddressingNodePort && e.NodeName != nil {
			s.nodes = append(s.nodes, *e.NodeName)
		}
	}
	slices.Sort(s.nodes)
	s.nodes = slices.Clip(slices.Compact(s.nodes))
	return s
}

// content translates an EndpointSlice one for one. Conditions and ports that are
// nil read as EndpointConditions and EndpointPort of discovery.k8s.io/v1 say, but
// serving, which follows ready: older controllers set ready alone.
func content(o *discoveryv1.EndpointSlice) mirror.Slice {
	s := mirror.Slice{Name: o.Name, AddressType: o.AddressType}
	for _, p := range o.Ports {
		s.Ports = append(s.Ports, mirror.Port{
			Name: value(p.Name), Number: value(p.Port), Protocol: protocol(p.Protocol), AppProtocol: value(p.AppProtocol),
		})
	}
	if len(o.Endpoints) == 0 {
		return s
	}
	s.Endpoints = make([]mirror.Endpoint, len(o.Endpoints))
	zone := ""
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if z := value(e.Zone); z != zone {
			zone = z // neighbours share one string
		}
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready
		s.Endpoints[i] = mirror.Endpoint{
			Addresses:   e.Addresses,
			Hostname:    value(e.Hostname),
			Zone:        zone,
			Ready:       ready,
			Serving:     ready,
			Terminating: value(e.Conditions.Terminating),
		}
		if e.Conditions.Serving != nil {
			s.Endpoints[i].Serving = *e.Conditions.Serving
		}
	}
	return s
}

// node keeps Nodes that a load balancer would send traffic to: those that are
// Ready, aren't being deleted, and aren't excluded by label (the label
// node.kubernetes.io/exclude-from-external-load-balancers of KEP-1143).
func (c converter) node(o *corev1.Node) row {
	if _, excluded := o.Labels[corev1.LabelNodeExcludeBalancers]; excluded || o.DeletionTimestamp != nil {
		return nil
	}
	if !slices.ContainsFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}) {
		return nil
	}
	n := &node{zone: o.Labels[corev1.LabelTopologyZone]}
	for _, a := range o.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			n.ips = append(n.ips, a.Address)
		}
	}
	return n
}

func protocol(p *corev1.Protocol) corev1.Protocol {
	if p == nil || *p == "" {
		return corev1.ProtocolTCP
	}
	switch *p { // constants share one string
	case corev1.ProtocolTCP:
		return corev1.ProtocolTCP
	case corev1.ProtocolUDP:
		return corev1.ProtocolUDP
	}
	return *p
}

// value returns what p points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
