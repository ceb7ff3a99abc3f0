package kubernetes

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

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
		refuse(m, ReasonExternalName, "Services of type ExternalName aren't mirrored, a host name could lead anywhere: use a Service with endpoints")
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

// loadBalancer addresses m by its load balancer's addresses and the Service's ports. One that
// has no address yet is mirrored without endpoints.
func (inv *inventory) loadBalancer(m *mirror.Service, s *service) {
	if s.kind != corev1.ServiceTypeLoadBalancer {
		refuse(m, ReasonNoLoadBalancer, fmt.Sprintf(
			"addressing is LoadBalancer and this Service is of type %.20q: give it type LoadBalancer, or the upstream another addressing", s.kind))
		return
	}
	for _, h := range s.hostnames {
		note(m, mirror.ReasonFQDNSlice, fmt.Sprintf(
			"the load balancer's address is the host name %.64q, which can't be an endpoint: use a load balancer that has an IP address, or another addressing", h))
	}
	if len(s.ips)+len(s.hostnames) == 0 {
		note(m, ReasonNoLoadBalancer, "the load balancer has no address yet: see the Service's events in the upstream")
	}
	usable := inv.usable(m.Key)
	var endpoints []mirror.Named
	for _, ip := range s.ips {
		endpoints = append(endpoints, mirror.Named{Name: ip, Family: mirror.FamilyOf(ip), Endpoint: mirror.Endpoint{
			Addresses: []string{ip}, Ready: usable, Serving: usable,
		}})
	}
	m.Slices = mirror.Chunks(m.Name+"-loadbalancer", s.ports, endpoints)
}

// usable reports whether the upstream forwards to some endpoint of a Service.
func (inv *inventory) usable(key mirror.Key) bool {
	return slices.ContainsFunc(inv.byService[key], func(s *slice) bool { return s.usable })
}
