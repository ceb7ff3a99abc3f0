package mirror

import (
	"errors"
	"fmt"
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// AddressPolicy says which endpoint addresses may enter the central cluster. The zero
// AddressPolicy refuses only what is always refused.
//
// Always refused are addresses that mean something to the machine that connects to
// them (CVE-2021-25737), that carry an IPv4 address inside (RFC 4291, 6052, 3056, 4380), and
// clouds' metadata services.
type AddressPolicy struct {
	allowed []netip.Prefix
	central []netip.Prefix
}

// NewAddressPolicy returns a policy that allows only the allowed CIDRs, or everything
// if there are none, and never the central cluster's own ranges. The error names each
// entry that isn't a CIDR.
func NewAddressPolicy(allowed []string, central []netip.Prefix) (AddressPolicy, error) {
	var p AddressPolicy
	var errs []error
	for _, s := range allowed {
		c, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("allowed CIDR %s isn't a range such as 10.0.0.0/8 or fd00::/8", quote(s)))
		case c.Addr().Is4In6():
			errs = append(errs, fmt.Errorf("allowed CIDR %s is IPv4-mapped; write it as an IPv4 range", quote(s)))
		default:
			p.allowed = append(p.allowed, c.Masked())
		}
	}
	for _, c := range central {
		if !c.IsValid() || c.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("central range %s isn't a plain IPv4 or IPv6 range", c))
			continue
		}
		p.central = append(p.central, c.Masked())
	}
	if len(errs) > 0 {
		return AddressPolicy{}, errors.Join(errs...)
	}
	return p, nil
}

// Check says whether an address of a slice of the given family may be mirrored. If
// not, it returns the reason and an error that names the address.
func (p AddressPolicy) Check(address string, family discoveryv1.AddressType) (Reason, error) {
	_, bad := p.judge(address, family)
	if bad == nil {
		return "", nil
	}
	return bad.reason, fmt.Errorf("%s %s", bad.subject, bad.what)
}

// denial is why an address is refused.
type denial struct {
	reason  Reason
	subject string // "address …"
	what    string // a clause that follows the subject: "is …"
}

// judge parses an address, and returns a denial if it may not be mirrored.
func (p AddressPolicy) judge(address string, family discoveryv1.AddressType) (netip.Addr, *denial) {
	if family == discoveryv1.AddressTypeFQDN {
		return netip.Addr{}, &denial{ReasonFQDNSlice, "address " + quote(address), "is a host name"}
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return a, &denial{ReasonInvalidAddress, "address " + quote(address), "isn't an IP address"}
	}
	if a.Zone() != "" {
		return a, &denial{ReasonInvalidAddress, "address " + quote(address), "has a zone"}
	}
	if a.Is4() != (family == discoveryv1.AddressTypeIPv4) || a.Is6() != (family == discoveryv1.AddressTypeIPv6) {
		return a, &denial{ReasonInvalidAddress, "address " + a.String(), "isn't of the slice's address type " + quote(string(family))}
	}
	always := alwaysDenied6
	if a.Is4() {
		always = alwaysDenied4
	}
	for i := range always {
		if always[i].Contains(a) {
			return a, &denial{ReasonAddressDenied, "address " + a.String(), "is " + always[i].what + ", which is always refused"}
		}
	}
	for _, c := range p.central {
		if c.Contains(a) {
			return a, &denial{ReasonAddressDenied, "address " + a.String(), "lies in the central cluster's own range " + c.String()}
		}
	}
	if len(p.allowed) == 0 {
		return a, nil
	}
	for _, c := range p.allowed {
		if c.Contains(a) {
			return a, nil
		}
	}
	return a, &denial{ReasonAddressOutside, "address " + a.String(), "isn't in the upstream's allowedCIDRs"}
}

// wayOut says what to do about a refused address.
func wayOut(r Reason) string {
	switch r {
	case ReasonAddressOutside:
		return "extend spec.allowedCIDRs, or remove such endpoints from the Service"
	case ReasonInvalidAddress:
		return "correct the slice"
	default:
		return "remove such endpoints from the Service"
	}
}

type deniedRange struct {
	netip.Prefix
	what string
}

// IANA's special-purpose address registries (RFC 6890) are the source where no other is named.
var alwaysDenied4 = []deniedRange{
	{netip.MustParsePrefix("0.0.0.0/32"), "unspecified"},
	{netip.MustParsePrefix("0.0.0.0/8"), `in 0.0.0.0/8 ("this network")`},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "in the reserved range 240.0.0.0/4"},
	{netip.MustParsePrefix("100.100.100.200/32"), "Alibaba Cloud's metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure's metadata service"},
	{netip.MustParsePrefix("192.0.0.192/32"), "Oracle Cloud's metadata service"},
}

var alwaysDenied6 = []deniedRange{
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "IPv4-translated"},
	{netip.MustParsePrefix("64:ff9b::/96"), "a NAT64 address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a NAT64 address"},
	{netip.MustParsePrefix("2001::/32"), "a Teredo address"},
	{netip.MustParsePrefix("2002::/16"), "a 6to4 address"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "one of AWS's instance services"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "Google Cloud's metadata service"},
}
