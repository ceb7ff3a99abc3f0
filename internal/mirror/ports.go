package mirror

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// servicePorts returns the valid ones of a Service's ports in their order, or false if the
// Service can't be mirrored for lack of any. The order has a meaning: of several ports of
// one number, consumers such as Contour take the first.
func servicePorts(in []Port, out *refusals) ([]corev1.ServicePort, bool) {
	ports := make([]corev1.ServicePort, 0, len(in))
	taken := newPortSet(len(in))
	for _, p := range in {
		p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		flaw := portFlaw(p, len(in))
		if flaw == "" {
			flaw = taken.clash(p)
		}
		if flaw != "" {
			out.add(ReasonInvalidPort, "port %s (%d) of the Service %s; correct the Service", quote(p.Name), p.Number, flaw)
			continue
		}
		taken.add(p)
		port := corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Number}
		switch {
		case isQualifiedName(p.AppProtocol):
			port.AppProtocol = new(centralProtocol(p.AppProtocol))
		case p.AppProtocol != "":
			out.add(ReasonInvalidPort, "appProtocol %s of port %s of the Service isn't a qualified name and is left out; correct it", quote(p.AppProtocol), quote(p.Name))
		}
		ports = append(ports, port)
	}
	return ports, len(ports) > 0 || len(in) == 0
}

// centralProtocol returns an appProtocol in words that Contour knows: kubernetes.io/wss, which
// is WebSocket over TLS (KEP-3726), is https to a proxy. Others mean the same everywhere.
func centralProtocol(p string) string {
	if p == "kubernetes.io/wss" {
		return "https"
	}
	return p
}

// portFlaw says what makes p, one of n ports, one that the API server would refuse: a
// clause that follows the port, or "" for nothing.
func portFlaw(p Port, n int) string {
	switch {
	case !portNumber(p.Number):
		return "isn't between 1 and 65535"
	case p.Protocol != corev1.ProtocolTCP && p.Protocol != corev1.ProtocolUDP && p.Protocol != corev1.ProtocolSCTP:
		return "has the protocol " + quote(string(p.Protocol)) + ", which isn't TCP, UDP or SCTP"
	case p.Name == "" && n > 1:
		return "has no name, as each of several ports must"
	case p.Name != "" && !isDNSLabel(p.Name):
		return "has a name that isn't a DNS label"
	}
	return ""
}

func portNumber(n int32) bool { return 1 <= n && n <= 65535 }

// portSet are ports that have been taken: maps, since there may be thousands.
type portSet struct {
	names   map[string]bool
	numbers map[numbered]bool
}

type numbered struct {
	number   int32
	protocol corev1.Protocol
}

func newPortSet(n int) portSet {
	return portSet{make(map[string]bool, n), make(map[numbered]bool, n)}
}

func (s portSet) add(p Port) {
	s.names[p.Name], s.numbers[numbered{p.Number, p.Protocol}] = true, true
}

func (s portSet) clash(p Port) string {
	switch {
	case s.names[p.Name]:
		return "has another port's name"
	case s.numbers[numbered{p.Number, p.Protocol}]:
		return "has another port's number and protocol"
	}
	return ""
}

// matcher finds the Service port that a slice's port belongs to.
type matcher map[named]*corev1.ServicePort

type named struct {
	name     string
	protocol corev1.Protocol
}

func matching(service []corev1.ServicePort) matcher {
	m := make(matcher, len(service))
	for i := range service {
		m[named{service[i].Name, service[i].Protocol}] = &service[i]
	}
	return m
}

// match returns the Service port of a slice's port, or nil where it is to be left out.
func (m matcher) match(p Port) *corev1.ServicePort {
	if !portNumber(p.Number) {
		return nil
	}
	return m[named{p.Name, cmp.Or(p.Protocol, corev1.ProtocolTCP)}]
}

// slicePorts returns those of a slice's ports that a Service port names, in their order.
// Number, name and protocol are explicit: Contour takes a port without a name for every
// Service port, and skips one without a protocol. The appProtocol is the Service port's, as
// Kubernetes' own slices have it.
func slicePorts(in *Slice, service []corev1.ServicePort, out *refusals) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(in.Ports))
	var dropped []string
	m, seen := matching(service), make(map[string]bool, len(in.Ports))
	for _, p := range in.Ports {
		of := m.match(p)
		if of == nil || seen[p.Name] {
			dropped = append(dropped, p.Name)
			continue
		}
		seen[p.Name] = true
		port := discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(of.Protocol), Port: new(p.Number)}
		if of.AppProtocol != nil {
			port.AppProtocol = new(*of.AppProtocol)
		}
		ports = append(ports, port)
	}
	if len(dropped) > 0 {
		out.add(ReasonPortUnmatched, "slice %s has ports that no Service port's name and protocol match, that have no number, or that repeat a name: %s; name the Service's ports alike",
			quote(in.Name), few(dropped))
	}
	return ports
}

// noteUnreachable says what keeps all endpoints of a Service out of the central cluster,
// where that isn't a refusal of its own: parts that Kubernetes itself makes and that do no
// harm beside others.
func (r Rules) noteUnreachable(s *Service, service []corev1.ServicePort, out *refusals) {
	var family, portless, others string
	for i := range s.Slices {
		switch in := &s.Slices[i]; {
		case len(in.Endpoints) == 0:
		case !r.reaches(in.AddressType):
			family = string(in.AddressType)
		case len(in.Ports) == 0 && len(service) > 0:
			portless = in.Name
		default:
			others = in.Name
		}
	}
	switch {
	case others != "":
	case portless != "":
		out.add(ReasonPortUnmatched, "slice %s has no ports, and no other slice has endpoints: no pod that the Service selects has a container port of its targetPort's name; name the pods' port so, or narrow the selector", quote(portless))
	case family != "":
		out.add(ReasonNoFamily, "every endpoint has an %s address, which isn't among the central cluster's families; give the Service endpoints of another family, or set spec.families", family)
	}
}

// reaches reports whether endpoints of a family can be connected to, as far as Families says. What
// isn't a family is refused by other means.
func (r Rules) reaches(family discoveryv1.AddressType) bool {
	return len(r.Families) == 0 || slices.Contains(r.Families, family) ||
		family != discoveryv1.AddressTypeIPv4 && family != discoveryv1.AddressTypeIPv6
}
