package mirror

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxPorts is how many ports a slice, and so a Service, may have (discovery/v1).
const maxPorts = 100

// servicePorts returns the valid ones of a Service's ports in order of name, or false
// if the Service can't be mirrored for lack of any.
func servicePorts(in []Port, out *refusals) ([]corev1.ServicePort, bool) {
	if len(in) > maxPorts {
		out.add(ReasonTooManyPorts, "the Service has %d ports, more than %d; split it", len(in), maxPorts)
		return nil, false
	}
	ports := make([]corev1.ServicePort, 0, len(in))
	for _, p := range in {
		p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if flaw := portFlaw(p, len(in), ports); flaw != "" {
			out.add(ReasonInvalidPort, "port %s (%d) of the Service %s; correct the Service", quote(p.Name), p.Number, flaw)
			continue
		}
		port := corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Number}
		switch {
		case isQualifiedName(p.AppProtocol):
			port.AppProtocol = new(p.AppProtocol)
		case p.AppProtocol != "":
			out.add(ReasonInvalidPort, "appProtocol %s of port %s of the Service isn't a qualified name and is left out; correct it", quote(p.AppProtocol), quote(p.Name))
		}
		ports = append(ports, port)
	}
	if len(ports) == 0 && len(in) > 0 {
		return nil, false
	}
	slices.SortFunc(ports, func(a, b corev1.ServicePort) int { return cmp.Compare(a.Name, b.Name) })
	return ports, true
}

// portFlaw says what makes p, one of n ports, one that the API server would refuse
// beside the ports taken so far: a clause that follows the port, or "" for nothing.
func portFlaw(p Port, n int, taken []corev1.ServicePort) string {
	switch {
	case p.Number < 1 || p.Number > 65535:
		return "isn't between 1 and 65535"
	case p.Protocol != corev1.ProtocolTCP && p.Protocol != corev1.ProtocolUDP && p.Protocol != corev1.ProtocolSCTP:
		return "has the protocol " + quote(string(p.Protocol)) + ", which isn't TCP, UDP or SCTP"
	case p.Name == "" && n > 1:
		return "has no name, as each of several ports must"
	case p.Name != "" && !isDNSLabel(p.Name):
		return "has a name that isn't a DNS label"
	}
	for _, t := range taken {
		if t.Name == p.Name {
			return "has another port's name"
		}
		if t.Port == p.Number && t.Protocol == p.Protocol {
			return "has another port's number and protocol"
		}
	}
	return ""
}

// slicePorts returns those of a slice's ports that a Service port names, in order of
// name. Number, name and protocol are explicit: Contour takes a port without a name
// for every Service port, and skips one without a protocol. The appProtocol is the
// Service port's, as Kubernetes' own slices have it.
func slicePorts(in *Slice, service []corev1.ServicePort, out *refusals) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(in.Ports))
	var dropped []string
	for _, p := range in.Ports {
		p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		match := slices.IndexFunc(service, func(s corev1.ServicePort) bool {
			return s.Name == p.Name && s.Protocol == p.Protocol
		})
		twice := slices.ContainsFunc(ports, func(t discoveryv1.EndpointPort) bool { return *t.Name == p.Name })
		if match < 0 || twice || p.Number < 1 || p.Number > 65535 {
			dropped = append(dropped, p.Name)
			continue
		}
		port := discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(p.Number)}
		if app := service[match].AppProtocol; app != nil {
			port.AppProtocol = new(*app)
		}
		ports = append(ports, port)
	}
	switch {
	case len(dropped) > 0:
		out.add(ReasonPortUnmatched, "slice %s has ports that no Service port's name and protocol match, that have no number, or that repeat a name: %s; name the Service's ports alike",
			quote(in.Name), few(dropped))
	// Kubernetes' own slice of a Service without endpoints has no ports either.
	case len(in.Ports) == 0 && len(service) > 0 && len(in.Endpoints) > 0:
		out.add(ReasonPortUnmatched, "slice %s has no ports; give it the Service's", quote(in.Name))
	}
	slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int { return cmp.Compare(*a.Name, *b.Name) })
	return ports
}
