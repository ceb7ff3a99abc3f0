package mirror

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// several returns endpoints of so many names, at IPv4 addresses.
func several(n int) []Named {
	var all []Named
	for i := range n {
		all = append(all, Named{Name: fmt.Sprintf("member-%d", i), Family: discoveryv1.AddressTypeIPv4, Endpoint: Endpoint{Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250)}}})
	}
	return all
}

var chunkPorts = []Port{{Name: "http", Number: 80, Protocol: corev1.ProtocolTCP}}

// bySlice returns the addresses of each slice, by its name.
func bySlice(all []Slice) map[string][]string {
	m := map[string][]string{}
	for _, s := range all {
		for _, e := range s.Endpoints {
			m[s.Name] = append(m[s.Name], e.Addresses...)
		}
	}
	return m
}

func TestChunks(t *testing.T) {
	for n, most := range map[int]int{0: 0, 1: 1, 100: 1, 101: 2, 250: 4, 5000: 128} {
		in := several(n)
		before := slices.Clone(in)
		got := Chunks("web", chunkPorts, in)
		if !reflect.DeepEqual(in, before) {
			t.Errorf("%d: the input was changed", n)
		}
		if len(got) > most || n > 0 && len(got) == 0 {
			t.Errorf("%d: %d slices", n, len(got))
		}
		var all []string
		for name, addresses := range bySlice(got) {
			if len(addresses) > 100 || len(validation.IsDNS1123Subdomain(name)) > 0 {
				t.Errorf("%d: slice %s of %d endpoints", n, name, len(addresses))
			}
			all = append(all, addresses...)
		}
		if len(all) != n || len(bySlice(got)) != len(got) {
			t.Errorf("%d: %d endpoints, %d names of %d slices", n, len(all), len(bySlice(got)), len(got))
		}
		slices.Reverse(in)
		if again := Chunks("web", chunkPorts, in); !reflect.DeepEqual(got, again) {
			t.Errorf("%d: it depends on the order", n)
		}
		for _, s := range got {
			if s.AddressType != discoveryv1.AddressTypeIPv4 || !slices.Equal(s.Ports, chunkPorts) {
				t.Errorf("%d: slice %+v", n, s)
			}
		}
	}
}

func TestChunksOfTwoFamilies(t *testing.T) {
	in := several(3)
	in[1].Family, in[1].Endpoint.Addresses = discoveryv1.AddressTypeIPv6, []string{"2001:db8::1"}
	got := Chunks("web", chunkPorts, in)
	want := map[string][]string{"web-ipv4-0": {"10.0.0.0", "10.0.0.2"}, "web-ipv6-0": {"2001:db8::1"}}
	if !reflect.DeepEqual(bySlice(got), want) || got[1].AddressType != discoveryv1.AddressTypeIPv6 {
		t.Errorf("got %+v", got)
	}
}

// An endpoint that comes or goes changes one slice.
func TestChunksAreSteady(t *testing.T) {
	before := bySlice(Chunks("web", chunkPorts, several(250)))
	for i := range 250 {
		after := bySlice(Chunks("web", chunkPorts, slices.Delete(several(250), i, i+1)))
		changed := 0
		for name := range before {
			if !slices.Equal(before[name], after[name]) {
				changed++
			}
		}
		if changed != 1 {
			t.Fatalf("%d slices change without endpoint %d", changed, i)
		}
	}
}

// Names whose hashes collide, as one who chooses them can have it, end in slices that are too large, not in a loop.
func TestChunksOfOneName(t *testing.T) {
	in := several(300)
	for i := range in {
		in[i].Name = "same"
	}
	if got := Chunks("web", chunkPorts, in); len(got) != 1 || len(got[0].Endpoints) != 300 {
		t.Errorf("%d slices", len(got))
	}
}

func TestFamilyOf(t *testing.T) {
	for ip, want := range map[string]discoveryv1.AddressType{
		"10.0.0.1": discoveryv1.AddressTypeIPv4, "2001:db8::1": discoveryv1.AddressTypeIPv6, "::ffff:10.0.0.1": discoveryv1.AddressTypeIPv6,
		"x": discoveryv1.AddressTypeIPv4, "": discoveryv1.AddressTypeIPv4, "010.0.0.1": discoveryv1.AddressTypeIPv4,
	} {
		if got := FamilyOf(ip); got != want {
			t.Errorf("%q: got %s", ip, got)
		}
	}
}

func FuzzChunks(f *testing.F) {
	f.Add("a,b,c", "10.0.0.1,::1", uint16(7))
	f.Add(strings.Repeat("x,", 300), "10.0.0.1", uint16(0))
	f.Fuzz(func(t *testing.T, names, addresses string, n uint16) {
		var in []Named
		ip := strings.Split(addresses, ",")
		for i, name := range strings.Split(names, ",") {
			in = append(in, Named{Name: fmt.Sprint(name, i%(1+int(n))), Family: FamilyOf(ip[i%len(ip)]), Endpoint: Endpoint{Addresses: []string{ip[i%len(ip)]}}})
		}
		got := Chunks("web", chunkPorts, in)
		total := 0
		for _, s := range got {
			total += len(s.Endpoints)
			for _, e := range s.Endpoints {
				if FamilyOf(e.Addresses[0]) != s.AddressType {
					t.Errorf("%s holds %v", s.Name, e.Addresses)
				}
			}
		}
		if total != len(in) || len(bySlice(got)) != len(got) {
			t.Errorf("%d of %d endpoints in %d slices of %d names", total, len(in), len(got), len(bySlice(got)))
		}
	})
}
