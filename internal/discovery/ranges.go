package discovery

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// centralRanges returns the central cluster's own address ranges as its API shows
// them: Service CIDRs (networking.k8s.io/v1 ServiceCIDR, absent before Kubernetes
// 1.33), the nodes' pod CIDRs and the nodes' addresses. The result is sorted.
func centralRanges(ctx context.Context, c client.Reader, fixed []netip.Prefix) ([]netip.Prefix, error) {
	ranges := slices.Clone(fixed)
	add := func(cidrs ...string) {
		for _, s := range cidrs {
			if p, err := netip.ParsePrefix(s); err == nil {
				ranges = append(ranges, p.Masked())
			}
		}
	}
	var services networkingv1.ServiceCIDRList
	if err := c.List(ctx, &services); err != nil && !meta.IsNoMatchError(err) {
		return nil, err
	}
	for i := range services.Items {
		add(services.Items[i].Spec.CIDRs...)
	}
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		add(nodes.Items[i].Spec.PodCIDRs...)
		for _, address := range nodes.Items[i].Status.Addresses {
			if a, err := netip.ParseAddr(address.Address); err == nil {
				ranges = append(ranges, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges), nil
}

// trimNode keeps of a Node what centralRanges reads.
func trimNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	trimmed := &corev1.Node{}
	trimmed.Name, trimmed.UID, trimmed.ResourceVersion = n.Name, n.UID, n.ResourceVersion
	trimmed.Spec.PodCIDRs = n.Spec.PodCIDRs
	trimmed.Status.Addresses = n.Status.Addresses
	return trimmed, nil
}

// namespaces is the set of central namespaces in which objects can be created.
type namespaces struct {
	mu    sync.RWMutex
	names map[string]bool
}

// Has implements namespaceSet.
func (n *namespaces) Has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.names[name]
}

// Set records whether a namespace is there and says whether that is news.
func (n *namespaces) Set(name string, there bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.names[name]
	if there {
		n.names[name] = true
	} else {
		delete(n.names, name)
	}
	return was != there
}
