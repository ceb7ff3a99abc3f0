package openstack

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// tree is a load balancer with all that hangs below it.
type tree struct {
	loadBalancer
	place     place
	listeners []listener
	pools     []*poolTree
	addresses []string // of the load balancer itself; VIP addressing
}

type poolTree struct {
	pool
	members  []member
	listened bool // a listener, enabled or not, has it as its default
}

// serviceKey names the Service of a load balancer: by the id, which doesn't change.
func (t *tree) serviceKey() mirror.Key {
	return mirror.Key{Namespace: t.place.namespace, Name: "lb-" + t.ID}
}

// poolKey names the Service of a pool that no listener has as its default.
func (t *tree) poolKey(p *poolTree) mirror.Key {
	return mirror.Key{Namespace: t.place.namespace, Name: "pool-" + p.ID}
}

// wants reports whether a pool's members are to be read.
func (t *tree) wants(p *poolTree, addressing v1alpha1.OpenStackAddressing) bool {
	if addressing == v1alpha1.AddressingVIP || !t.Enabled || !p.Enabled || p.Members.N == 0 {
		return false
	}
	return !p.listened || slices.ContainsFunc(t.listeners, func(l listener) bool { return l.Enabled && l.DefaultPool == p.ID })
}

// services translates a load balancer: itself, and with Member addressing each pool
// that is no listener's default. What is disabled publishes nothing.
func (t *tree) services(addressing v1alpha1.OpenStackAddressing) []*mirror.Service {
	if t.place.reason != "" {
		key := t.serviceKey()
		return []*mirror.Service{{Key: key, Refused: true, Refusals: []mirror.Refusal{{
			Key: key, Reason: t.place.reason, Message: fmt.Sprintf("load balancer %.64q isn't mirrored: %s", t.Name, t.place.message),
		}}}}
	}
	if !t.Enabled {
		return nil
	}
	own := t.service(t.serviceKey(), "")
	if addressing == v1alpha1.AddressingVIP {
		t.addVIP(own)
		return []*mirror.Service{own}
	}
	t.addListeners(own)
	services := []*mirror.Service{own}
	for _, p := range t.pools {
		if p.listened || !p.Enabled {
			continue
		}
		s := t.service(t.poolKey(p), p.Name)
		services = append(services, s)
		if p.speaksPROXY() {
			s.Refused = true
			note(s, ReasonUnsupported, "pool %s wants the PROXY protocol, which Contour has Envoy speak to no endpoint: it isn't mirrored; give the pool another protocol", p.ID)
			continue
		}
		port := mirror.Port{Name: "port-80", Number: 80, Protocol: corev1.ProtocolTCP}
		if p.speaksTLS() {
			port = mirror.Port{Name: "port-443", Number: 443, Protocol: corev1.ProtocolTCP, AppProtocol: "https"}
		}
		if transport := transportOf(p.Protocol); transport != "" {
			port.Protocol = transport
		}
		t.addPort(s, port, p)
	}
	return services
}

// service returns a Service with labels and nothing else.
func (t *tree) service(key mirror.Key, pool string) *mirror.Service {
	own := map[string]string{LabelLoadBalancer: labelValue(t.Name)}
	if pool != "" {
		own[LabelPool] = labelValue(pool)
	}
	return &mirror.Service{
		Key: key, Labels: t.labels(), OwnLabels: own, OwnAnnotations: t.place.own,
	}
}

// labels are made of the tags that are key=value. Of several with one key the first in order counts.
func (lb loadBalancer) labels() map[string]string {
	var labels map[string]string
	for _, tag := range slices.Sorted(slices.Values(lb.Tags)) {
		key, v, ok := strings.Cut(tag, "=")
		if _, twice := labels[key]; !ok || twice {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = v
	}
	return labels
}

// addListeners adds a port for each listener, with the endpoints of its default pool.
// Requests to members don't pass the load balancer, so a port that it opens to
// some clients only is left out: the tier would open it to all.
func (t *tree) addListeners(s *mirror.Service) {
	for _, l := range t.listeners {
		port, ok := l.servicePort(s)
		if !ok {
			continue
		}
		if fields := l.restrictions(); fields != "" {
			note(s, ReasonAccessControl, "listener %.64s lets only some clients in (%s), which the tier can't see to: port %d is left out; lift that in the listener and restrict clients in the tier, or give the upstream the addressing VIP",
				l.ID, fields, port.Number)
			continue
		}
		i := slices.IndexFunc(t.pools, func(p *poolTree) bool { return p.ID == l.DefaultPool })
		if i < 0 { // the listener has L7 policies alone
			s.Ports = append(s.Ports, port)
			continue
		}
		p := t.pools[i]
		if p.speaksPROXY() {
			note(s, ReasonUnsupported, "pool %s wants the PROXY protocol, which Contour has Envoy speak to no endpoint: port %d is left out; give the pool another protocol, or the upstream the addressing VIP", p.ID, port.Number)
			continue
		}
		if p.speaksTLS() {
			port.AppProtocol = "https"
		}
		t.addPort(s, port, p)
	}
	sortPorts(s.Ports)
}

// servicePort returns the port of a listener, or false where it has none.
func (l listener) servicePort(s *mirror.Service) (mirror.Port, bool) {
	if !l.Enabled {
		return mirror.Port{}, false
	}
	if l.Protocol == "PROMETHEUS" {
		note(s, ReasonUnsupported, "listener %.64s serves the load balancer's own metrics (PROMETHEUS), which no member can answer: port %d is left out", l.ID, l.Port)
		return mirror.Port{}, false
	}
	port := mirror.Port{Name: fmt.Sprintf("port-%d", l.Port), Number: l.Port, Protocol: transportOf(l.Protocol)}
	switch {
	case port.Protocol == "":
		note(s, ReasonUnsupported, "listener %.64s has the protocol %.32q, which isn't known: port %d is left out", l.ID, l.Protocol, l.Port)
		return mirror.Port{}, false
	case port.Protocol != corev1.ProtocolTCP: // there may be a TCP listener of the same number
		port.Name += "-" + strings.ToLower(string(port.Protocol))
	case l.Protocol == "HTTPS": // passed through, so it is what the members speak
		port.AppProtocol = "https"
	}
	return port, true
}

// restrictions names the listener's fields that let only some clients in, or returns "".
func (l listener) restrictions() string {
	var fields []string
	if len(l.AllowedCIDRs) > 0 && !slices.ContainsFunc(l.AllowedCIDRs, isEverybody) {
		fields = append(fields, "allowed_cidrs")
	}
	if l.ClientAuthentication == "MANDATORY" {
		fields = append(fields, "client_authentication")
	}
	return strings.Join(fields, " and ")
}

// isEverybody reports whether a range holds all addresses of a family.
func isEverybody(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.Bits() == 0
}

// sortPorts orders ports by number, and of one number TCP first: consumers that look a port
// up by its number, as Contour does, take the first.
func sortPorts(ports []mirror.Port) {
	slices.SortStableFunc(ports, func(a, b mirror.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), compareTransports(a.Protocol, b.Protocol))
	})
}

func compareTransports(a, b corev1.Protocol) int {
	switch {
	case a == b:
		return 0
	case a == corev1.ProtocolTCP:
		return -1
	case b == corev1.ProtocolTCP:
		return 1
	}
	return cmp.Compare(a, b)
}

// transportOf returns what a listener's or a pool's protocol is carried by, or "" if it isn't known.
func transportOf(protocol string) corev1.Protocol {
	switch protocol {
	case "HTTP", "HTTPS", "TCP", "TERMINATED_HTTPS", "PROXY", "PROXYV2":
		return corev1.ProtocolTCP
	case "UDP":
		return corev1.ProtocolUDP
	case "SCTP":
		return corev1.ProtocolSCTP
	}
	return ""
}

// speaksTLS reports whether the pool's members do.
func (p pool) speaksTLS() bool { return p.TLS || p.Protocol == "HTTPS" }

// addPort adds a port with a pool's members as its endpoints.
func (t *tree) addPort(s *mirror.Service, port mirror.Port, p *poolTree) {
	s.Ports = append(s.Ports, port)
	if !p.Enabled {
		return
	}
	byPort := map[int32][]mirror.Named{}
	spare := !slices.ContainsFunc(p.members, func(m member) bool { return m.ready() && !m.Backup })
	for _, m := range distinct(p.members) {
		byPort[m.Port] = append(byPort[m.Port], mirror.Named{Name: m.ID, Family: mirror.FamilyOf(m.Address), Endpoint: m.endpoint(spare)})
	}
	for _, number := range slices.Sorted(maps.Keys(byPort)) {
		prefix := s.Name + "-" + port.Name + "-" + strconv.Itoa(int(number))
		s.Slices = append(s.Slices, mirror.Chunks(prefix, []mirror.Port{{Name: port.Name, Number: number, Protocol: port.Protocol}}, byPort[number])...)
	}
	slices.SortStableFunc(s.Slices, func(a, b mirror.Slice) int { return cmp.Compare(a.Name, b.Name) })
}

// speaksPROXY reports whether the pool's members want the PROXY protocol.
func (p pool) speaksPROXY() bool { return p.Protocol == "PROXY" || p.Protocol == "PROXYV2" }

// distinct returns the enabled members with canonical addresses. Of several with one
// address and port the one that is best off counts, or else the first in order of id.
func distinct(members []member) []member {
	type target struct {
		address string
		port    int32
	}
	at := make(map[target]int, len(members))
	kept := make([]member, 0, len(members))
	for _, m := range members {
		if !m.Enabled {
			continue
		}
		m.Address = canonical(m.Address)
		i, twice := at[target{m.Address, m.Port}]
		switch {
		case !twice:
			at[target{m.Address, m.Port}] = len(kept)
			kept = append(kept, m)
		case cmp.Or(m.rank()-kept[i].rank(), strings.Compare(kept[i].ID, m.ID)) > 0:
			kept[i] = m
		}
	}
	return kept
}

// canonical returns an address as RFC 5952 spells it; what isn't one stays as it is.
func canonical(address string) string {
	if a, err := netip.ParseAddr(address); err == nil {
		return a.String()
	}
	return address
}

// endpoint translates a member. A backup is one only while no other member takes requests,
// which is what spare says. Until then it isn't serving either: who falls back to
// endpoints that are serving where none is ready mustn't take it.
func (m member) endpoint(spare bool) mirror.Endpoint {
	masked := m.Backup && !spare
	return mirror.Endpoint{
		Addresses: []string{m.Address}, Weight: m.share(),
		Ready: m.ready() && !masked, Serving: m.serving() && !masked, Terminating: m.draining() && !masked,
	}
}

// ready reports whether a member takes new connections.
func (m member) ready() bool { return m.Enabled && m.serving() && !m.draining() }

// serving reports whether a member answers, as far as Octavia knows.
func (m member) serving() bool {
	return m.Operating == "ONLINE" || m.Operating == "NO_MONITOR" || m.Operating == "DRAINING"
}

// draining reports whether a member only finishes what it has: one with weight 0 gets no new connections.
func (m member) draining() bool { return m.Operating == "DRAINING" || ptr.Deref(m.Weight, 1) == 0 }

// rank orders members by how much use they are.
func (m member) rank() int {
	switch {
	case m.ready() && !m.Backup:
		return 3
	case m.ready():
		return 2
	case m.serving():
		return 1
	}
	return 0
}

// addVIP makes s the load balancer as it is seen from outside.
func (t *tree) addVIP(s *mirror.Service) {
	for _, l := range t.listeners {
		if port, ok := l.servicePort(s); ok {
			if l.Protocol == "TERMINATED_HTTPS" {
				port.AppProtocol = "https"
			}
			s.Ports = append(s.Ports, port)
		}
	}
	sortPorts(s.Ports)
	up := t.Operating == "ONLINE" || t.Operating == "DEGRADED" || t.Operating == "NO_MONITOR"
	var endpoints []mirror.Named
	for _, a := range t.addresses {
		endpoints = append(endpoints, mirror.Named{Name: a, Family: mirror.FamilyOf(a), Endpoint: mirror.Endpoint{
			Addresses: []string{a}, Ready: up, Serving: up,
		}})
	}
	if len(s.Ports) > 0 {
		s.Slices = mirror.Chunks(s.Name+"-vip", s.Ports, endpoints)
	}
}

func note(s *mirror.Service, reason mirror.Reason, format string, args ...any) {
	s.Refusals = append(s.Refusals, mirror.Refusal{Key: s.Key, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// labelValue makes a name a valid label value: what may not be in one becomes a dash, and
// it is cut to 63 characters that begin and end with a letter or digit.
func labelValue(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_':
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 128 {
			break
		}
	}
	value := strings.TrimLeft(b.String(), "-_.")
	return strings.TrimRight(value[:min(63, len(value))], "-_.")
}
