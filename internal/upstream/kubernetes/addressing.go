package kubernetes

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// service builds the Service of a key as the addressing says, or returns false where there is none.
func (inv *inventory) service(key mirror.Key, addressing v1alpha1.Addressing) (*mirror.Service, bool) {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	s, ok := inv.rows[services][key].(*service)
	if !ok {
		return nil, false
	}
	m := &mirror.Service{Key: key, Labels: s.labels, Annotations: s.annotations, Ports: s.ports}
	switch {
	case s.kind == corev1.ServiceTypeExternalName:
		refuse(m, mirror.ReasonExternalName, "Services of type ExternalName aren't mirrored, a host name could lead anywhere: use a Service with endpoints")
	case addressing == v1alpha1.AddressingNodePort:
		inv.nodePort(m, s)
	case addressing == v1alpha1.AddressingLoadBalancer:
		inv.loadBalancer(m, s)
	default:
		for _, slice := range inv.byService[key] {
			m.Slices = append(m.Slices, slice.content)
		}
	}
	return m, true
}

// refuse makes m a Service of which nothing is mirrored.
func refuse(m *mirror.Service, reason mirror.Reason, message string) {
	m.Refused = true
	m.Ports = nil
	note(m, reason, message)
}

func note(m *mirror.Service, reason mirror.Reason, message string) {
	m.Refusals = append(m.Refusals, mirror.Refusal{Key: m.Key, Reason: reason, Message: message})
}

// nodePort addresses m by the nodes' addresses and the Service's node ports. Every node
// forwards to all endpoints, unless the external traffic policy is Local.
func (inv *inventory) nodePort(m *mirror.Service, s *service) {
	var ports []mirror.Port
	m.Ports = nil
	for i, p := range s.ports {
		if s.nodePorts[i] == 0 {
			continue
		}
		m.Ports = append(m.Ports, p)
		p.Number = s.nodePorts[i]
		ports = append(ports, p)
	}
	if len(ports) == 0 {
		refuse(m, mirror.ReasonNoNodePort, fmt.Sprintf(
			"addressing is NodePort and this Service of type %.20q has no node port: give it type NodePort, or the upstream another addressing", s.kind))
		return
	}
	ready := inv.ready(m.Key)
	var endpoints []mirror.Named
	for key, r := range inv.rows[nodes] {
		if s.local && !inv.readyOn(m.Key, key.Name) {
			continue
		}
		n := r.(*node)
		for _, family := range [...]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			if ip := firstOf(n.ips, family); ip != "" {
				endpoints = append(endpoints, mirror.Named{Name: key.Name, Family: family, Endpoint: mirror.Endpoint{
					Addresses: []string{ip}, Zone: n.zone, Ready: ready, Serving: ready,
				}})
			}
		}
	}
	m.Slices = mirror.Chunks(m.Name+"-nodeport", ports, endpoints)
}

// loadBalancer addresses m by its load balancer's addresses and the Service's ports. One that
// has no address yet is mirrored without endpoints.
func (inv *inventory) loadBalancer(m *mirror.Service, s *service) {
	if s.kind != corev1.ServiceTypeLoadBalancer {
		refuse(m, mirror.ReasonNoLoadBalancer, fmt.Sprintf(
			"addressing is LoadBalancer and this Service is of type %.20q: give it type LoadBalancer, or the upstream another addressing", s.kind))
		return
	}
	for _, h := range s.hostnames {
		note(m, mirror.ReasonFQDNSlice, fmt.Sprintf(
			"the load balancer's address is the host name %.64q, which can't be an endpoint: use a load balancer that has an IP address, or another addressing", h))
	}
	if len(s.ips)+len(s.hostnames) == 0 {
		note(m, mirror.ReasonNoLoadBalancer, "the load balancer has no address yet: see the Service's events in the upstream")
	}
	ready := inv.ready(m.Key)
	var endpoints []mirror.Named
	for _, ip := range s.ips {
		endpoints = append(endpoints, mirror.Named{Name: ip, Family: mirror.FamilyOf(ip), Endpoint: mirror.Endpoint{
			Addresses: []string{ip}, Ready: ready, Serving: ready,
		}})
	}
	m.Slices = mirror.Chunks(m.Name+"-loadbalancer", s.ports, endpoints)
}

// ready reports whether a Service has a ready endpoint.
func (inv *inventory) ready(key mirror.Key) bool {
	return slices.ContainsFunc(inv.byService[key], func(s *slice) bool { return s.ready })
}

// readyOn reports whether a Service has a ready endpoint on a node.
func (inv *inventory) readyOn(key mirror.Key, node string) bool {
	return slices.ContainsFunc(inv.byService[key], func(s *slice) bool {
		_, found := slices.BinarySearch(s.nodes, node)
		return found
	})
}

// firstOf returns the first address of a family, which is the one that a node prefers.
func firstOf(ips []string, family discoveryv1.AddressType) string {
	for _, ip := range ips {
		if mirror.FamilyOf(ip) == family {
			return ip
		}
	}
	return ""
}
