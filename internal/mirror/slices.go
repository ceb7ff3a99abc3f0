package mirror

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// desiredSlice returns the central slice of an upstream slice of svc, or nil if there should be none.
func (r Rules) desiredSlice(in *Slice, svc *corev1.Service, k Key, out *refusals) *discoveryv1.EndpointSlice {
	if !r.reaches(in.AddressType) || !sliceValid(in, out) {
		return nil
	}
	ports := slicePorts(in, svc.Spec.Ports, out)
	if len(ports) == 0 {
		return nil
	}
	endpoints, weights := r.endpoints(in, out)
	if len(endpoints) == 0 && len(in.Endpoints) > 0 { // all are refused: an empty slice would say nothing
		return nil
	}
	annotations := map[string]string{AnnotationSource: svc.Annotations[AnnotationSource]}
	if weights != "" {
		annotations[AnnotationWeights] = weights
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace,
			Name:      SliceName(r.Backend, svc.Namespace, in.Name),
			Labels: map[string]string{
				discoveryv1.LabelServiceName: svc.Name,
				discoveryv1.LabelManagedBy:   ManagedBy,
				LabelBackend:                 r.Backend,
				LabelService:                 k.Name,
			},
			Annotations:     annotations,
			OwnerReferences: []metav1.OwnerReference{ownerReference(svc)},
		},
		AddressType: in.AddressType,
		Ports:       ports,
		Endpoints:   endpoints,
	}
}

// ownerReference makes the garbage collector remove a slice that outlives its Service.
func ownerReference(svc *corev1.Service) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: svc.UID, Controller: new(true)}
}

func sliceValid(in *Slice, out *refusals) bool {
	switch {
	case !isDNSSubdomain(in.Name):
		out.add(ReasonInvalidName, "slice name %s isn't a DNS subdomain; rename the slice", quote(in.Name))
	case in.AddressType == discoveryv1.AddressTypeFQDN:
		out.add(ReasonFQDNSlice, "slice %s holds host names, which can't be endpoints; give it IP addresses", quote(in.Name))
	case in.AddressType != discoveryv1.AddressTypeIPv4 && in.AddressType != discoveryv1.AddressTypeIPv6:
		out.add(ReasonInvalidAddress, "slice %s has the address type %s, which isn't IPv4 or IPv6; correct the slice", quote(in.Name), quote(string(in.AddressType)))
	default:
		return true
	}
	return false
}

// endpoints returns a slice's endpoints, less those with an address that is refused, and
// the value of AnnotationWeights, which is empty where every weight is 1.
func (r Rules) endpoints(in *Slice, out *refusals) ([]discoveryv1.Endpoint, string) {
	endpoints := make([]discoveryv1.Endpoint, 0, len(in.Endpoints))
	var denied denials
	var weights map[string]int32
	for i := range in.Endpoints {
		e := &in.Endpoints[i]
		addresses, bad := r.addresses(e.Addresses, in.AddressType)
		if bad != nil {
			denied = denied.add(bad)
			continue
		}
		// Explicit, since the API takes a missing ready or serving for true.
		c := &[3]bool{e.Ready, e.Serving, e.Terminating}
		endpoint := discoveryv1.Endpoint{
			Addresses:  addresses,
			Conditions: discoveryv1.EndpointConditions{Ready: &c[0], Serving: &c[1], Terminating: &c[2]},
		}
		if isDNSLabel(e.Hostname) {
			endpoint.Hostname = new(e.Hostname)
		}
		if isName(e.Zone) {
			endpoint.Zone = new(e.Zone)
		}
		if e.Weight != nil && *e.Weight != 1 {
			if weights == nil {
				weights = map[string]int32{}
			}
			weights[addresses[0]] = *e.Weight
		}
		endpoints = append(endpoints, endpoint)
	}
	denied.refuse(in.Name, out)
	slices.SortStableFunc(endpoints, compareEndpoints)
	return endpoints, weightsValue(weights)
}

func weightsValue(weights map[string]int32) string {
	if len(weights) == 0 {
		return ""
	}
	b, err := json.Marshal(weights) // in order of address
	if err != nil {
		panic(err) // strings and numbers can always be marshalled
	}
	return string(b)
}

// addresses returns an endpoint's addresses in canonical form (RFC 5952), which the
// API server demands, or a denial of the first that may not be mirrored.
func (r Rules) addresses(in []string, family discoveryv1.AddressType) ([]string, *denial) {
	if len(in) == 0 || len(in) > maxAddresses {
		return nil, &denial{ReasonInvalidAddress, "an endpoint", "doesn't have 1 to 100 addresses"}
	}
	out := make([]string, len(in))
	for i, s := range in {
		a, bad := r.Addresses.judge(s, family)
		if bad != nil {
			return nil, bad
		}
		out[i] = canonical(s, a)
	}
	return out, nil
}

// canonical returns the canonical form of s, which parsed as a.
func canonical(s string, a netip.Addr) string {
	var buf [64]byte
	if b := a.AppendTo(buf[:0]); string(b) != s {
		return string(b)
	}
	return s
}

// compareEndpoints orders endpoints by their addresses. The rest makes the order of
// endpoints that share addresses independent of the upstream's order too.
func compareEndpoints(a, b discoveryv1.Endpoint) int {
	if c := slices.Compare(a.Addresses, b.Addresses); c != 0 {
		return c
	}
	return cmp.Or(
		compareBools(a.Conditions.Ready, b.Conditions.Ready),
		compareBools(a.Conditions.Serving, b.Conditions.Serving),
		compareBools(a.Conditions.Terminating, b.Conditions.Terminating),
		cmp.Compare(ptr.Deref(a.Hostname, ""), ptr.Deref(b.Hostname, "")),
		cmp.Compare(ptr.Deref(a.Zone, ""), ptr.Deref(b.Zone, "")),
	)
}

func compareBools(a, b *bool) int {
	switch {
	case ptr.Deref(a, false) == ptr.Deref(b, false):
		return 0
	case ptr.Deref(b, false):
		return -1
	default:
		return 1
	}
}

// ReadyEndpoints returns how many endpoints are ready.
func ReadyEndpoints(endpoints []discoveryv1.Endpoint) int {
	n := 0
	for i := range endpoints {
		if ptr.Deref(endpoints[i].Conditions.Ready, false) {
			n++
		}
	}
	return n
}

// Publishes reports whether the objects that Desired returns have a ready endpoint. It
// costs much less.
func (r Rules) Publishes(s *Service) bool {
	quiet := &refusals{}
	ports, ok := servicePorts(s.Ports, quiet)
	if !ok || r.verdict(s, quiet) != mirrored {
		return false
	}
	m := matching(ports)
	seen := make(map[string]bool, len(s.Slices))
	for i := range s.Slices {
		in := &s.Slices[i]
		if seen[in.Name] {
			continue
		}
		seen[in.Name] = true
		if r.reaches(in.AddressType) && sliceValid(in, quiet) && r.publishes(in, m) {
			return true
		}
	}
	return false
}

func (r Rules) publishes(in *Slice, m matcher) bool {
	if !slices.ContainsFunc(in.Ports, func(p Port) bool { return m.match(p) != nil }) {
		return false
	}
	return slices.ContainsFunc(in.Endpoints, func(e Endpoint) bool {
		if !e.Ready {
			return false
		}
		_, bad := r.addresses(e.Addresses, in.AddressType)
		return bad == nil
	})
}

// denials are the denials of one slice's endpoints, by reason.
type denials map[Reason]*denialCount

type denialCount struct {
	n     int
	first []*denial
}

func (d denials) add(bad *denial) denials {
	if d == nil {
		d = denials{}
	}
	c := d[bad.reason]
	if c == nil {
		c = &denialCount{}
		d[bad.reason] = c
	}
	if c.n++; len(c.first) < maxNamed {
		c.first = append(c.first, bad)
	}
	return d
}

// refuse adds one refusal for each reason.
func (d denials) refuse(slice string, out *refusals) {
	for _, reason := range slices.Sorted(maps.Keys(d)) {
		c := d[reason]
		if c.n == 1 {
			out.add(reason, "%s of slice %s %s; %s", c.first[0].subject, quote(slice), c.first[0].what, wayOut(reason))
			continue
		}
		var named []string
		for _, bad := range c.first {
			named = append(named, bad.subject+" "+bad.what)
		}
		out.add(reason, "%d endpoints of slice %s are refused: %s%s; %s",
			c.n, quote(slice), strings.Join(named, "; "), others(c.n-len(named)), wayOut(reason))
	}
}
