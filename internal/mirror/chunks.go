package mirror

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxChunk is the most endpoints of a slice that isn't one of the upstream's own.
const maxChunk = 100

// Named is an endpoint and the name that decides which slice it belongs to.
type Named struct {
	Name     string
	Family   discoveryv1.AddressType
	Endpoint Endpoint
}

// Chunks distributes endpoints over slices of at most 100, by family and by a hash
// of their names: an endpoint that comes or goes changes one slice, until they outgrow
// their number, which then doubles. Endpoints are in order of name.
func Chunks(prefix string, ports []Port, endpoints []Named) []Slice {
	endpoints = slices.SortedFunc(slices.Values(endpoints), func(a, b Named) int { return strings.Compare(a.Name, b.Name) })
	var result []Slice
	for _, family := range [...]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		for i, members := range partition(endpoints, family) {
			if len(members) == 0 {
				continue
			}
			result = append(result, Slice{
				Name:        fmt.Sprintf("%s-%s-%d", prefix, strings.ToLower(string(family)), i),
				AddressType: family,
				Ports:       ports,
				Endpoints:   members,
			})
		}
	}
	return result
}

func partition(endpoints []Named, family discoveryv1.AddressType) [][]Endpoint {
	for n := uint32(1); ; n *= 2 {
		parts := make([][]Endpoint, n)
		largest := 0
		for _, e := range endpoints {
			if e.Family != family {
				continue
			}
			h := fnv.New32a()
			h.Write([]byte(e.Name))
			at := h.Sum32() % n
			parts[at] = append(parts[at], e.Endpoint)
			largest = max(largest, len(parts[at]))
		}
		if largest <= maxChunk || int(n) > len(endpoints) {
			for i := range parts {
				parts[i] = slices.Clone(parts[i]) // they stay: to the exact size
			}
			return parts
		}
	}
}

// FamilyOf returns the family of an address by its form. What isn't an address counts as
// IPv4, so that it is refused by name later on rather than lost.
func FamilyOf(ip string) discoveryv1.AddressType {
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}
