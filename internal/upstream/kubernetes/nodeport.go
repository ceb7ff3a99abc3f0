package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// NodePort addressing publishes what the upstream's kube-proxies really open: the node
// ports of a Service's own families, on the nodes to which a load balancer of the
// upstream would send traffic, for as long as there are pods to forward to.

const (
	// taintToBeDeleted marks a node on its way out, as the service controller has it
	// (k8s.io/cloud-provider/controllers/service).
	taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"
	// taintUninitialized marks a node that has no addresses yet (k8s.io/cloud-provider/api).
	taintUninitialized = "node.cloudprovider.kubernetes.io/uninitialized"
)

// exposure is what of a Service decides what kube-proxy opens for it.
type exposure struct {
	nodePorts  []int32 // one for each port
	ipv4, ipv6 bool    // the Service's families
	local      bool    // externalTrafficPolicy: Local
}

func newExposure(spec *corev1.ServiceSpec) *exposure {
	e := &exposure{
		ipv4:  slices.Contains(spec.IPFamilies, corev1.IPv4Protocol),
		ipv6:  slices.Contains(spec.IPFamilies, corev1.IPv6Protocol),
		local: spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	// API servers before 1.20 have no families: kube-proxy goes by the cluster IP.
	if len(spec.IPFamilies) == 0 && spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		e.ipv6 = mirror.FamilyOf(spec.ClusterIP) == discoveryv1.AddressTypeIPv6
		e.ipv4 = !e.ipv6
	}
	for _, p := range spec.Ports {
		e.nodePorts = append(e.nodePorts, p.NodePort)
	}
	return e
}

// families returns the families of the Service that have node ports.
func (e *exposure) families() []discoveryv1.AddressType {
	var list []discoveryv1.AddressType
	if e.ipv4 {
		list = append(list, discoveryv1.AddressTypeIPv4)
	}
	if e.ipv6 {
		list = append(list, discoveryv1.AddressTypeIPv6)
	}
	return list
}

// portID is what kube-proxy matches the ports of a Service and of its slices by.
type portID struct {
	name     string
	protocol corev1.Protocol
}

// backing is what of an EndpointSlice decides where kube-proxy forwards a node port.
type backing struct {
	family discoveryv1.AddressType
	ports  []portID
	nodes  []string // those of usable endpoints, sorted
}

func newBacking(o *discoveryv1.EndpointSlice) *backing {
	b := &backing{family: o.AddressType}
	for i := range o.Ports {
		if p := &o.Ports[i]; ptr.Deref(p.Port, 0) != 0 {
			b.ports = append(b.ports, portID{shared(ptr.Deref(p.Name, "")), protocol(p.Protocol)})
		}
	}
	for i := range o.Endpoints {
		if e := &o.Endpoints[i]; e.NodeName != nil && usable(*e) {
			b.nodes = append(b.nodes, shared(*e.NodeName))
		}
	}
	slices.Sort(b.nodes)
	b.nodes = slices.Clip(slices.Compact(b.nodes))
	return b
}

// usable reports whether kube-proxy may forward to an endpoint: to one that is ready,
// and where there is none, to those that end and still serve (KEP-1669).
func usable(e discoveryv1.Endpoint) bool {
	c := &e.Conditions
	return ptr.Deref(c.Ready, true) || ptr.Deref(c.Serving, true) && ptr.Deref(c.Terminating, false)
}

// node is what is kept of a Node: nothing of one that a load balancer sends no traffic to.
type node struct{ ipv4, ipv6, zone string }

func (n *node) size() size {
	return size{objects: 1, bytes: 128 + len(n.zone) + len(n.ipv4) + len(n.ipv6)}
}

func (n *node) address(family discoveryv1.AddressType) string {
	if family == discoveryv1.AddressTypeIPv6 {
		return n.ipv6
	}
	return n.ipv4
}

// node keeps the Nodes that the service controller keeps in load balancers. Ready isn't
// asked for: kubelets that lose their API server make no kube-proxy forward less (KEP-3458).
func (c converter) node(o *corev1.Node) row {
	if o.DeletionTimestamp != nil || excluded(o) || tainted(o, taintToBeDeleted) {
		return nil
	}
	n := &node{zone: o.Labels[corev1.LabelTopologyZone]}
	// In kube-proxy's order (--nodeport-addresses=primary).
	for _, typ := range [...]corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range o.Status.Addresses {
			switch family := mirror.FamilyOf(a.Address); {
			case a.Type != typ || n.address(family) != "":
			case family == discoveryv1.AddressTypeIPv6:
				n.ipv6 = a.Address
			default:
				n.ipv4 = a.Address
			}
		}
	}
	if n.ipv4+n.ipv6 == "" && tainted(o, taintUninitialized) {
		return nil
	}
	return n
}

// excluded reports whether a Node's label takes it out of load balancing (KEP-1143).
func excluded(o *corev1.Node) bool {
	v, found := o.Labels[corev1.LabelNodeExcludeBalancers]
	included, err := strconv.ParseBool(v)
	return found && (err != nil || included)
}

func tainted(o *corev1.Node, key string) bool {
	return slices.ContainsFunc(o.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// nodePort addresses m by the nodes' addresses and the Service's node ports. Every node
// forwards to all endpoints, unless the external traffic policy is Local.
func (inv *inventory) nodePort(m *mirror.Service, s *service) {
	var opened []mirror.Port // with the node ports' numbers
	var closed []string
	m.Ports = nil
	for i, p := range s.ports {
		if s.exposure.nodePorts[i] == 0 {
			closed = append(closed, p.Name)
			continue
		}
		m.Ports = append(m.Ports, p)
		p.Number = s.exposure.nodePorts[i]
		opened = append(opened, p)
	}
	families := s.exposure.families()
	switch {
	case len(opened) == 0:
		refuse(m, ReasonNoNodePort, fmt.Sprintf(
			"addressing is NodePort and this Service of type %.20q has no node port: give it type NodePort, or the upstream another addressing", s.kind))
		return
	case len(families) == 0:
		refuse(m, ReasonNoNodePort,
			"addressing is NodePort and this Service has no cluster IP, without which kube-proxy opens no node port: give it one")
		return
	case len(closed) > 0:
		note(m, ReasonNoNodePort, fmt.Sprintf("ports of this Service have no node port and aren't mirrored: %s; give each a node port", named(closed)))
	}
	without := make(map[string]bool)
	for _, family := range families {
		for i, g := range inv.groups(m.Key, s, family, opened) {
			prefix := m.Name + "-nodeport"
			if i > 0 {
				prefix += "." + g.ports[0].Name // Services' names have no dots: it is no other one's
			}
			m.Slices = append(m.Slices, mirror.Chunks(prefix, g.ports, inv.onNodes(g, family, without))...)
		}
	}
	inv.noteWithout(m, without, families)
}

// group is ports of a Service that have the same endpoints.
type group struct {
	ports  []mirror.Port
	usable bool
	nodes  []string // with externalTrafficPolicy Local: those with a usable endpoint; else nil, which stands for all
}

// groups returns a Service's node ports by where they are open. Slices need not have all of the
// Service's ports: pods may differ in the ports that they name.
func (inv *inventory) groups(key mirror.Key, s *service, family discoveryv1.AddressType, ports []mirror.Port) []*group {
	having := make(map[portID][]int) // which slices have a port
	list := inv.byService[key]
	for i, slice := range list {
		if b := slice.backing; slice.usable && b.family == family {
			for _, p := range b.ports {
				having[p] = append(having[p], i)
			}
		}
	}
	var groups []*group
	for _, p := range ports {
		g := &group{ports: []mirror.Port{p}, usable: len(having[portID{p.Name, p.Protocol}]) > 0}
		if s.exposure.local {
			g.nodes = []string{}
			for _, i := range having[portID{p.Name, p.Protocol}] {
				g.nodes = append(g.nodes, list[i].backing.nodes...)
			}
			slices.Sort(g.nodes)
			g.nodes = slices.Compact(g.nodes)
		}
		same := slices.IndexFunc(groups, func(other *group) bool {
			return other.usable == g.usable && slices.Equal(other.nodes, g.nodes)
		})
		if same < 0 {
			groups = append(groups, g)
			continue
		}
		groups[same].ports = append(groups[same].ports, p)
	}
	return groups
}

// onNodes returns the endpoints of a group, and adds to without the nodes that have no address of the family.
func (inv *inventory) onNodes(g *group, family discoveryv1.AddressType, without map[string]bool) []mirror.Named {
	var endpoints []mirror.Named
	for key, r := range inv.rows[nodes] {
		if _, backs := slices.BinarySearch(g.nodes, key.Name); g.nodes != nil && !backs {
			continue
		}
		n := r.(*node)
		ip := n.address(family)
		if ip == "" {
			without[key.Name] = true
			continue
		}
		endpoints = append(endpoints, mirror.Named{Name: key.Name, Family: family, Endpoint: mirror.Endpoint{
			Addresses: []string{ip}, Zone: n.zone, Ready: g.usable, Serving: g.usable,
		}})
	}
	return endpoints
}

// noteWithout tells of nodes that have no address of any family of the Service. A node
// of one family in a cluster of two is as it should be.
func (inv *inventory) noteWithout(m *mirror.Service, without map[string]bool, families []discoveryv1.AddressType) {
	maps.DeleteFunc(without, func(name string, _ bool) bool {
		n := inv.rows[nodes][mirror.Key{Name: name}].(*node)
		return slices.ContainsFunc(families, func(f discoveryv1.AddressType) bool { return n.address(f) != "" })
	})
	if len(without) == 0 {
		return
	}
	of := string(families[0])
	if len(families) > 1 {
		of += " or " + string(families[1])
	}
	note(m, ReasonNoNodeAddress, fmt.Sprintf("nodes have neither an InternalIP nor an ExternalIP of %s and aren't used: %s; "+
		"set the address by kubelet's --node-ip or the cloud's controller, or exclude the node with the label %s",
		of, named(slices.Sorted(maps.Keys(without))), corev1.LabelNodeExcludeBalancers))
}

// named quotes the first few of the upstream's names and counts the others.
func named(list []string) string {
	const most = 3
	var b strings.Builder
	for i, name := range list[:min(len(list), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.64q", name)
	}
	if more := len(list) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}
