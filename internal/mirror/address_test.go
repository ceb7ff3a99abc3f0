package mirror

import (
	"net/netip"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestAddressPolicy(t *testing.T) {
	central := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:10:96::/48")}
	open, err := NewAddressPolicy(nil, central)
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := NewAddressPolicy([]string{"10.0.0.0/8", "fd00::1/16", "127.0.0.0/8"}, central)
	if err != nil {
		t.Fatal(err)
	}
	for address, tc := range map[string]struct{ open, narrow Reason }{
		"10.0.0.1":                {"", ""},
		"10.95.255.255":           {"", ""},
		"192.168.0.1":             {"", ReasonAddressOutside},
		"8.8.8.8":                 {"", ReasonAddressOutside},
		"2001:db8::1":             {"", ReasonAddressOutside},
		"fd00::1":                 {"", ""},
		"10.96.0.1":               {ReasonAddressDenied, ReasonAddressDenied},
		"10.111.255.255":          {ReasonAddressDenied, ReasonAddressDenied},
		"fd00:10:96::1":           {ReasonAddressDenied, ReasonAddressDenied},
		"0.0.0.0":                 {ReasonAddressDenied, ReasonAddressDenied},
		"0.1.2.3":                 {ReasonAddressDenied, ReasonAddressDenied},
		"127.0.0.1":               {ReasonAddressDenied, ReasonAddressDenied},
		"127.255.255.255":         {ReasonAddressDenied, ReasonAddressDenied},
		"169.254.169.254":         {ReasonAddressDenied, ReasonAddressDenied},
		"224.0.0.1":               {ReasonAddressDenied, ReasonAddressDenied},
		"239.255.255.255":         {ReasonAddressDenied, ReasonAddressDenied},
		"240.0.0.1":               {ReasonAddressDenied, ReasonAddressDenied},
		"255.255.255.255":         {ReasonAddressDenied, ReasonAddressDenied},
		"100.100.100.200":         {ReasonAddressDenied, ReasonAddressDenied},
		"168.63.129.16":           {ReasonAddressDenied, ReasonAddressDenied},
		"192.0.0.192":             {ReasonAddressDenied, ReasonAddressDenied},
		"::":                      {ReasonAddressDenied, ReasonAddressDenied},
		"::1":                     {ReasonAddressDenied, ReasonAddressDenied},
		"::10.0.0.1":              {ReasonAddressDenied, ReasonAddressDenied},
		"::ffff:10.0.0.1":         {ReasonAddressDenied, ReasonAddressDenied},
		"::ffff:7f00:1":           {ReasonAddressDenied, ReasonAddressDenied},
		"::ffff:0:127.0.0.1":      {ReasonAddressDenied, ReasonAddressDenied},
		"64:ff9b::a9fe:a9fe":      {ReasonAddressDenied, ReasonAddressDenied},
		"64:ff9b:1::7f00:1":       {ReasonAddressDenied, ReasonAddressDenied},
		"2002:7f00:1::":           {ReasonAddressDenied, ReasonAddressDenied},
		"2001:0:1::1":             {ReasonAddressDenied, ReasonAddressDenied},
		"fe80::1":                 {ReasonAddressDenied, ReasonAddressDenied},
		"febf::1":                 {ReasonAddressDenied, ReasonAddressDenied},
		"fec0::1":                 {ReasonAddressDenied, ReasonAddressDenied},
		"ff02::1":                 {ReasonAddressDenied, ReasonAddressDenied},
		"fd00:ec2::254":           {ReasonAddressDenied, ReasonAddressDenied},
		"fd20:ce::254":            {ReasonAddressDenied, ReasonAddressDenied},
		"fe80::1%eth0":            {ReasonInvalidAddress, ReasonInvalidAddress},
		"fd00::1%eth0":            {ReasonInvalidAddress, ReasonInvalidAddress},
		"010.0.0.1":               {ReasonInvalidAddress, ReasonInvalidAddress},
		"0x7f.1":                  {ReasonInvalidAddress, ReasonInvalidAddress},
		"2130706433":              {ReasonInvalidAddress, ReasonInvalidAddress},
		"10.0.0.1 ":               {ReasonInvalidAddress, ReasonInvalidAddress},
		"":                        {ReasonInvalidAddress, ReasonInvalidAddress},
		"example.com":             {ReasonInvalidAddress, ReasonInvalidAddress},
		strings.Repeat("x", 9999): {ReasonInvalidAddress, ReasonInvalidAddress},
	} {
		family, other := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
		if strings.Contains(address, ":") {
			family, other = other, family
		}
		for policy, want := range map[*AddressPolicy]Reason{&open: tc.open, &narrow: tc.narrow} {
			got, err := policy.Check(address, family)
			if got != want || (err != nil) != (want != "") {
				t.Errorf("%.40s: got %q (%v), want %q", address, got, err, want)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
			if got, _ := policy.Check(address, other); got != ReasonInvalidAddress {
				t.Errorf("%.40s as %s: got %q", address, other, got)
			}
		}
	}
	if got, _ := open.Check("example.com", discoveryv1.AddressTypeFQDN); got != ReasonFQDNSlice {
		t.Errorf("FQDN: got %q", got)
	}
}

func TestNewAddressPolicyNamesEveryBadEntry(t *testing.T) {
	_, err := NewAddressPolicy([]string{"10.0.0.0/8", "10.0.0.0/33", "nonsense", "::ffff:10.0.0.0/104"}, []netip.Prefix{{}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{`"10.0.0.0/33"`, `"nonsense"`, `"::ffff:10.0.0.0/104"`, "central range"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q isn't named: %v", part, err)
		}
	}
}

// forbidden tells with net/netip's own predicates, not the policy's table, that an address must never pass.
func forbidden(a netip.Addr) bool {
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "" ||
		a == netip.MustParseAddr("169.254.169.254") || a == netip.MustParseAddr("100.100.100.200")
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", "::1", "fe80::1%lo", "010.1.1.1", "64:ff9b::1"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	allowed := netip.MustParsePrefix("10.0.0.0/8")
	narrow, err := NewAddressPolicy([]string{allowed.String()}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string, v4 bool) {
		family := discoveryv1.AddressTypeIPv6
		if v4 {
			family = discoveryv1.AddressTypeIPv4
		}
		var open AddressPolicy
		if reason, err := open.Check(s, family); reason == "" {
			a := netip.MustParseAddr(s)
			if err != nil || forbidden(a) || a.Is4() != v4 {
				t.Errorf("%q passes as %s", s, family)
			}
		}
		if reason, _ := narrow.Check(s, family); reason == "" && !allowed.Contains(netip.MustParseAddr(s)) {
			t.Errorf("%q passes though it isn't in %s", s, allowed)
		}
	})
}

func TestGuardLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		limit            GuardLimit
		total, deletions int
		want             bool
	}{
		"few Services":  {GuardLimit{30, 10}, 9, 9, true},
		"at the share":  {GuardLimit{30, 10}, 10, 3, true},
		"over it":       {GuardLimit{30, 10}, 10, 4, false},
		"all":           {GuardLimit{100, 0}, 10, 10, true},
		"none allowed":  {GuardLimit{0, 0}, 1000, 1, false},
		"nothing to do": {GuardLimit{0, 0}, 0, 0, true},
		"empty, orphan": {GuardLimit{30, 0}, 0, 1, false},
	} {
		if got := tc.limit.Allows(tc.total, tc.deletions); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestSelection(t *testing.T) {
	selector, err := labels.Parse("tier=web")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		selection Selection
		key       Key
		labels    map[string]string
		want      bool
	}{
		"everything":       {Selection{}, Key{"team", "web"}, nil, true},
		"star":             {Selection{Include: []string{"*"}}, Key{"team", "web"}, nil, true},
		"included":         {Selection{Include: []string{"a", "team"}}, Key{"team", "web"}, nil, true},
		"not included":     {Selection{Include: []string{"a"}}, Key{"team", "web"}, nil, false},
		"exclusion wins":   {Selection{Include: []string{"team"}, Exclude: []string{"team"}}, Key{"team", "web"}, nil, false},
		"all excluded":     {Selection{Exclude: []string{"*"}}, Key{"team", "web"}, nil, false},
		"API server":       {Selection{}, Key{"default", "kubernetes"}, nil, false},
		"default's others": {Selection{}, Key{"default", "web"}, nil, true},
		"others' name":     {Selection{}, Key{"team", "kubernetes"}, nil, true},
		"Gimbal's own":     {Selection{}, Key{"team", "web"}, map[string]string{LabelBackend: ""}, false},
		"selected":         {Selection{Labels: selector}, Key{"team", "web"}, map[string]string{"tier": "web"}, true},
		"not selected":     {Selection{Labels: selector}, Key{"team", "web"}, nil, false},
	} {
		if got := tc.selection.Service(tc.key, tc.labels); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	s, l := Selection{Include: []string{"*"}, Labels: selector}, map[string]string{"tier": "web"}
	if n := testing.AllocsPerRun(100, func() { s.Service(Key{"team", "web"}, l) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
