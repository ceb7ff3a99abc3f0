package openstack

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// floating is what Neutron lists of floating addresses.
type floating struct {
	byPort map[string]string
	others bool // some are of other projects than the credential's own
}

// floatingIPs lists the floating addresses; none without Neutron.
func (s *Source) floatingIPs(ctx context.Context) (f floating, err error) {
	f.byPort = map[string]string{}
	if s.session.neutron == "" {
		return f, nil
	}
	l := s.options.Limits
	all, _, err := list[floatingIP](ctx, s.session, collection{
		api: s.session.neutron, path: "floatingips", name: "floatingips", most: amount{l.Slices, l.Bytes}, read: new(usage),
	})
	for _, one := range all {
		if one.Port != "" {
			f.byPort[one.Port] = one.Address
		}
		f.others = f.others || one.Project != s.session.project.ID
	}
	return f, err
}

// addressesOf returns the load balancer's address of each family, IPv4 first: a floating one
// that leads to it where there is one. Of several the load balancer's first VIP counts, then
// the additional ones in order: all lead to the one load balancer, and several endpoints would
// stand for several.
func addressesOf(lb loadBalancer, byPort map[string]string) []string {
	vips := lb.vips()
	for i := range vips {
		vips[i].Address = canonical(vips[i].Address)
	}
	slices.SortFunc(vips[1:], func(a, b vip) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Port, b.Port))
	})
	var addresses []string
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		var own, floating string
		for _, v := range vips {
			if v.Address == "" || mirror.FamilyOf(v.Address) != family {
				continue
			}
			own = cmp.Or(own, v.Address)
			floating = cmp.Or(floating, canonical(byPort[v.Port]))
		}
		if address := cmp.Or(floating, own); address != "" {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// errOwnAddressesOnly says that load balancers may have floating addresses that the credential doesn't see.
var errOwnAddressesOnly = errors.New("Neutron shows the credential its own project's floating addresses only")

// portsAsked is how many ports one request asks for, so that its URL stays short.
const portsAsked = 50

// seesFloating makes sure that other projects' floating addresses were listed, too. Neutron
// leaves them out without a word where the credential's role may not see them: those load
// balancers would get their inner addresses. That some are listed says that it may, or else
// that Neutron shows it the ports of their load balancers.
func (s *Source) seesFloating(ctx context.Context, trees []*tree, f floating) error {
	if s.options.Addressing != v1alpha1.AddressingVIP || s.session.neutron == "" || f.others {
		return nil
	}
	var ports []string
	for _, t := range trees {
		if t.ProjectID == s.session.project.ID || t.place.reason != "" {
			continue
		}
		for _, v := range t.vips() {
			if isID(v.Port) && len(ports) < portsAsked {
				ports = append(ports, v.Port)
			}
		}
	}
	if len(ports) == 0 {
		return nil
	}
	var seen []port
	_, err := s.session.get(ctx, s.session.neutron, "ports", url.Values{"id": ports, "fields": {"id"}}, func(body io.Reader) (err error) {
		seen, _, err = page[port](body, "ports", len(ports))
		return err
	})
	if err == nil && !slices.ContainsFunc(seen, func(p port) bool { return slices.Contains(ports, p.ID) }) {
		return errOwnAddressesOnly
	}
	return err
}
