package central

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Ranges are the central cluster's own addresses, as its API shows them: Service CIDRs
// (networking.k8s.io/v1 ServiceCIDR, absent before Kubernetes 1.33), the nodes' pod CIDRs and
// the nodes' addresses. What can't be parsed is left out.
type Ranges struct {
	changed func()

	mu       sync.Mutex
	shown    map[string]shown // by object
	prefixes []netip.Prefix
	families []discoveryv1.AddressType
}

// shown is what one object shows.
type shown struct {
	prefixes []netip.Prefix
	families []discoveryv1.AddressType
}

// NewRanges returns Ranges that know nothing yet. changed, if it isn't nil, is called when
// they have changed.
func NewRanges(changed func()) *Ranges {
	return &Ranges{changed: changed, shown: map[string]shown{}}
}

// Prefixes returns the ranges, sorted. The caller must not change them.
func (r *Ranges) Prefixes() []netip.Prefix {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.prefixes
}

// Families returns the address families of the nodes, in order: those to which a proxy on
// the host network can connect. It returns none where no node is shown.
func (r *Ranges) Families() []discoveryv1.AddressType {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.families
}

// Read reads everything once.
func (r *Ranges) Read(ctx context.Context, c client.Reader) error {
	var services networkingv1.ServiceCIDRList
	if err := c.List(ctx, &services); err != nil && !meta.IsNoMatchError(err) {
		return err
	}
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range services.Items {
		r.shown[services.Items[i].Name+"/ServiceCIDR"] = serviceRanges(&services.Items[i])
	}
	for i := range nodes.Items {
		r.shown[nodes.Items[i].Name+"/Node"] = nodeRanges(&nodes.Items[i])
	}
	r.sum()
	return nil
}

// Handler returns what an informer of Nodes or ServiceCIDRs is to call. An event costs what
// its object shows; only where that has changed is anything summed up.
func (r *Ranges) Handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.set(o, true) },
		UpdateFunc: func(_, o any) { r.set(o, true) },
		DeleteFunc: func(o any) { r.set(o, false) },
	}
}

func (r *Ranges) set(o any, there bool) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	var key string
	var s shown
	switch o := o.(type) {
	case *corev1.Node:
		key, s = o.Name+"/Node", nodeRanges(o)
	case *networkingv1.ServiceCIDR:
		key, s = o.Name+"/ServiceCIDR", serviceRanges(o)
	default:
		return
	}
	if r.replace(key, s, there) && r.changed != nil {
		r.changed()
	}
}

// replace sets what an object shows, and reports whether the ranges or families have changed.
func (r *Ranges) replace(key string, s shown, there bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, was := r.shown[key]
	if was == there && (!there || slices.Equal(old.prefixes, s.prefixes) && slices.Equal(old.families, s.families)) {
		return false
	}
	if there {
		r.shown[key] = s
	} else {
		delete(r.shown, key)
	}
	prefixes, families := r.prefixes, r.families
	r.sum()
	return !slices.Equal(prefixes, r.prefixes) || !slices.Equal(families, r.families)
}

// sum makes the ranges and families of what all objects show. The caller holds r.mu.
func (r *Ranges) sum() {
	var prefixes []netip.Prefix
	families := map[discoveryv1.AddressType]bool{}
	for _, s := range r.shown {
		prefixes = append(prefixes, s.prefixes...)
		for _, f := range s.families {
			families[f] = true
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	r.prefixes, r.families = slices.Compact(prefixes), slices.Sorted(maps.Keys(families))
}

func serviceRanges(c *networkingv1.ServiceCIDR) (s shown) {
	for _, cidr := range c.Spec.CIDRs {
		s.addRange(cidr)
	}
	return s
}

func nodeRanges(n *corev1.Node) (s shown) {
	for _, cidr := range n.Spec.PodCIDRs {
		s.addRange(cidr)
	}
	for _, address := range n.Status.Addresses {
		a, err := netip.ParseAddr(address.Address)
		if err != nil {
			continue // a host name
		}
		a = a.Unmap().WithZone("")
		s.prefixes = append(s.prefixes, netip.PrefixFrom(a, a.BitLen()))
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		family := discoveryv1.AddressTypeIPv6
		if a.Is4() {
			family = discoveryv1.AddressTypeIPv4
		}
		if !slices.Contains(s.families, family) {
			s.families = append(s.families, family)
		}
	}
	return s
}

func (s *shown) addRange(cidr string) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	s.prefixes = append(s.prefixes, p.Masked())
}

// TrimNode keeps of a Node what Ranges reads. It is a cache's transformation.
func TrimNode(o any) (any, error) {
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
