// Package network plans a lab's addresses and makes its links: a bridge that
// every cluster's node and the host are plugged into, and routes so that pods of
// all clusters reach each other (a flat network).
package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/projectcontour/gimbal/lab/process"
)

// Cluster is one cluster's place in the network.
type Cluster struct {
	Name string
	// Node is the address of its only node, and of its API server.
	Node netip.Addr
	// Pods is the range of its pods' addresses, NodePods the part of its only node.
	Pods, NodePods netip.Prefix
	// Services is the range of its Services' addresses, DNS the one of its name server.
	Services netip.Prefix
	DNS      netip.Addr
}

// Plan is a lab's addresses. The index makes those that the host sees
// different from other labs'.
type Plan struct {
	// Host is the host's own address in the lab's network, Lab the lab's.
	Host, Lab netip.Prefix
	// HostLink is the host's interface.
	HostLink string
	Clusters []Cluster
	Members  Members
}

// Members is the place in the network of what an OpenStack's load balancers balance:
// processes in a namespace of their own, which has the OpenStack's name. It is empty
// in a lab without an OpenStack.
type Members struct {
	Name string
	// Gateway is the address that the range is reached by.
	Gateway netip.Addr
	// Range is all theirs.
	Range netip.Prefix
}

// MaxClusters is how many clusters a lab can have.
const MaxClusters = 10

// NewPlan plans a lab with clusters of the given names and, unless its name is empty,
// an OpenStack.
func NewPlan(index int, names []string, openstack string) (Plan, error) {
	if len(names) > MaxClusters {
		return Plan{}, fmt.Errorf("%d clusters are too many; a lab has at most %d", len(names), MaxClusters)
	}
	address := func(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 89, byte(index), byte(last)}) }
	p := Plan{
		Host: netip.PrefixFrom(address(1), 24), Lab: netip.PrefixFrom(address(2), 24),
		HostLink: fmt.Sprintf("gimbal-lab%d", index),
	}
	for i, name := range names {
		pods := netip.AddrFrom4([4]byte{10, byte(241 + i), 0, 0})
		p.Clusters = append(p.Clusters, Cluster{
			Name: name, Node: address(10 * (i + 1)),
			Pods: netip.PrefixFrom(pods, 16), NodePods: netip.PrefixFrom(pods, 24),
			Services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(96 + i), 0, 0}), 16),
			DNS:      netip.AddrFrom4([4]byte{10, byte(96 + i), 0, 10}),
		})
	}
	if openstack != "" {
		p.Members = Members{Name: openstack, Gateway: address(250), Range: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 251, 0, 0}), 24)}
	}
	return p, nil
}

const (
	bridge = "lab0"
	uplink = "uplink"
)

// ConnectHost makes the host's link to the lab whose first process has the given id.
// The link ends with the lab's network namespace.
func (p Plan) ConnectHost(pid int) error {
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.HostLink}, PeerName: uplink, PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make interface %s: %w", p.HostLink, err)
	}
	return configure(p.HostLink, p.Host)
}

// Build makes the lab's own side, in the network namespace of the caller: the
// bridge, the host's link plugged into it, and a namespace with a link of its own for
// each cluster's node, and for the members. It returns the namespaces' paths, by name.
func (p Plan) Build(ctx context.Context) (map[string]string, error) {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("let the lab forward packets: %w", err)
	}
	if err := up("lo"); err != nil {
		return nil, err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", bridge, err)
	}
	if err := configure(bridge, p.Lab); err != nil {
		return nil, err
	}
	if err := plugHost(ctx, br); err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for i, c := range p.Clusters {
		path, err := newNamespace(c.Name)
		if err != nil {
			return nil, err
		}
		paths[c.Name] = path
		if err := p.plug(br, path, fmt.Sprintf("node%d", i), c.Node, i); err != nil {
			return nil, fmt.Errorf("network of cluster %s: %w", c.Name, err)
		}
	}
	if m := p.Members; m.Name != "" {
		path, err := newNamespace(m.Name)
		if err != nil {
			return nil, err
		}
		paths[m.Name] = path
		if err := p.plugMembers(br, path); err != nil {
			return nil, fmt.Errorf("network of the members of %s: %w", m.Name, err)
		}
	}
	return paths, p.route(-1)
}

// plugHost waits for the host's link, which the host makes at the same time.
func plugHost(ctx context.Context, br netlink.Link) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := process.Await(ctx, nil, func(context.Context) error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(link, br)
	})
	if err != nil {
		return fmt.Errorf("the host's link: %w", err)
	}
	return up(uplink)
}

// plug links the namespace at path to the bridge. It is that of the cluster with number self.
func (p Plan) plug(br netlink.Link, path, name string, address netip.Addr, self int) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: br.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(ns)),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	if err := up(name); err != nil {
		return err
	}
	return process.In(path, func() error {
		if err := up("lo"); err != nil {
			return err
		}
		if err := configure("eth0", netip.PrefixFrom(address, p.Lab.Bits())); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		everything := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if err := netlink.RouteAdd(&netlink.Route{Dst: everything, Gw: p.Lab.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("default route: %w", err)
		}
		return p.route(self)
	})
}

// membersNode stands for the members where a cluster's number is wanted.
const membersNode = -2

// plugMembers links the members' namespace, in which every address of their range is
// the namespace's own.
func (p Plan) plugMembers(br netlink.Link, path string) error {
	if err := p.plug(br, path, "members", p.Members.Gateway, membersNode); err != nil {
		return err
	}
	return process.In(path, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		own := &netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: ipNet(p.Members.Range),
			Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		}
		if err := netlink.RouteAdd(own); err != nil {
			return fmt.Errorf("take the addresses %s: %w", p.Members.Range, err)
		}
		return nil
	})
}

// route adds, in the caller's namespace, a route to the pods of every cluster, and to
// the members, but for those of the caller, which is the cluster with number self.
func (p Plan) route(self int) error {
	for i, c := range p.Clusters {
		if i == self {
			continue
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(c.Pods), Gw: c.Node.AsSlice()}); err != nil {
			return fmt.Errorf("route to the pods of %s: %w", c.Name, err)
		}
	}
	if p.Members.Name == "" || self == membersNode {
		return nil
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(p.Members.Range), Gw: p.Members.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route to the members of %s: %w", p.Members.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// newNamespace makes a named network namespace and returns its path.
func newNamespace(name string) (string, error) {
	err := process.Aside(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		return ns.Close()
	})
	if err != nil {
		return "", fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return "/run/netns/" + name, nil
}

func configure(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, address, err)
	}
	return up(name)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}
