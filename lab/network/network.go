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
}

// MaxClusters is how many clusters a lab can have.
const MaxClusters = 10

// NewPlan plans a lab with clusters of the given names.
func NewPlan(index int, names []string) (Plan, error) {
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
// bridge, the host's link plugged into it, and a namespace with a node's link
// for each cluster. It returns the namespaces' paths, by the clusters' names.
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
		if err := p.plugNode(br, path, i); err != nil {
			return nil, fmt.Errorf("network of cluster %s: %w", c.Name, err)
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

func (p Plan) plugNode(br netlink.Link, path string, i int) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	name := fmt.Sprintf("node%d", i)
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
		if err := configure("eth0", netip.PrefixFrom(p.Clusters[i].Node, p.Lab.Bits())); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		everything := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if err := netlink.RouteAdd(&netlink.Route{Dst: everything, Gw: p.Lab.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("default route: %w", err)
		}
		return p.route(i)
	})
}

// route adds, in the caller's namespace, a route to the pods of every cluster
// but the one with number self.
func (p Plan) route(self int) error {
	for i, c := range p.Clusters {
		if i == self {
			continue
		}
		dst := &net.IPNet{IP: c.Pods.Addr().AsSlice(), Mask: net.CIDRMask(c.Pods.Bits(), 32)}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: c.Node.AsSlice()}); err != nil {
			return fmt.Errorf("route to the pods of %s: %w", c.Name, err)
		}
	}
	return nil
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
	ip := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ip}); err != nil {
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
