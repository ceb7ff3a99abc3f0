package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

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
	exposure            *exposure // NodePort addressing
	ips, hostnames      []string  // of the load balancer; LoadBalancer addressing
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
	if s.exposure != nil {
		n += 64 + 4*len(s.ports)
	}
	return size{objects: 1, bytes: n + length(s.ips) + length(s.hostnames)}
}

// apiServer is what is kept of default/kubernetes, the Service of the upstream's own API
// server: the UID by which a cluster is known. It is made once for each cluster.
type apiServer struct{ uid string }

func (a *apiServer) size() size { return size{bytes: 64 + len(a.uid)} }

// slice is what is kept of an EndpointSlice.
type slice struct {
	name    string
	service mirror.Key   // of the label kubernetes.io/service-name
	content mirror.Slice // Pod addressing
	usable  bool         // kube-proxy may forward to some endpoint; other addressing
	backing *backing     // NodePort addressing
}

func (s *slice) size() size {
	n := 192 + len(s.service.Name) + len(s.name)
	for _, p := range s.content.Ports {
		n += 56 + len(p.Name) + len(p.Protocol) + len(p.AppProtocol)
	}
	for _, e := range s.content.Endpoints {
		n += 64 + len(e.Hostname) + len(e.Zone) + length(e.Addresses)
	}
	endpoints := len(s.content.Endpoints)
	if s.backing != nil {
		endpoints = len(s.backing.nodes)
		n += 80 + length(s.backing.nodes)
		for _, p := range s.backing.ports {
			n += 32 + len(p.name)
		}
	}
	return size{1, endpoints, n}
}

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
		if o.Namespace == apiServerKey.Namespace && o.Name == apiServerKey.Name {
			return newItem(&o.ObjectMeta, &apiServer{identity(o.UID)}), nil
		}
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
	s := &service{labels: sharedKeys(o.Labels), kind: o.Spec.Type}
	for k, v := range o.Annotations {
		if strings.HasPrefix(k, annotationPrefix) {
			if s.annotations == nil {
				s.annotations = make(map[string]string)
			}
			s.annotations[shared(k)] = v
		}
	}
	for _, p := range o.Spec.Ports {
		s.ports = append(s.ports, mirror.Port{
			Name: shared(p.Name), Number: p.Port, Protocol: protocol(&p.Protocol), AppProtocol: ptr.Deref(p.AppProtocol, ""),
		})
	}
	switch c.addressing {
	case v1alpha1.AddressingNodePort:
		s.exposure = newExposure(&o.Spec)
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
	s.usable = slices.ContainsFunc(o.Endpoints, usable)
	if c.addressing == v1alpha1.AddressingNodePort {
		s.backing = newBacking(o)
	}
	return s
}

// content translates an EndpointSlice one for one. Conditions and ports that are
// nil read as EndpointConditions and EndpointPort of discovery.k8s.io/v1 say, but
// serving, which follows ready: older controllers set ready alone.
func content(o *discoveryv1.EndpointSlice) mirror.Slice {
	s := mirror.Slice{Name: o.Name, AddressType: o.AddressType}
	for _, p := range o.Ports {
		s.Ports = append(s.Ports, mirror.Port{
			Name: shared(ptr.Deref(p.Name, "")), Number: ptr.Deref(p.Port, 0), Protocol: protocol(p.Protocol), AppProtocol: ptr.Deref(p.AppProtocol, ""),
		})
	}
	if len(o.Endpoints) == 0 {
		return s
	}
	s.Endpoints = make([]mirror.Endpoint, len(o.Endpoints))
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		ready := ptr.Deref(e.Conditions.Ready, true)
		s.Endpoints[i] = mirror.Endpoint{
			Addresses:   e.Addresses,
			Hostname:    ptr.Deref(e.Hostname, ""),
			Zone:        shared(ptr.Deref(e.Zone, "")),
			Ready:       ready,
			Serving:     ptr.Deref(e.Conditions.Serving, ready),
			Terminating: ptr.Deref(e.Conditions.Terminating, false),
		}
	}
	return s
}

// maxIdentity is the most bytes of an identity; a UUID has 36.
const maxIdentity = 128

// identity makes a UID, which is the upstream's text, fit to be shown.
func identity(uid types.UID) string {
	return strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return '?'
		}
		return r
	}, string(uid[:min(len(uid), maxIdentity)]))
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

// shared returns s, or an equal string that others share: a decoder makes each anew.
func shared(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// sharedKeys returns labels with keys that others share.
func sharedKeys(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	m := make(map[string]string, len(labels))
	for k, v := range labels {
		m[shared(k)] = v
	}
	return m
}
