package openstack

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

func service(name string, endpoints int, l map[string]string) *mirror.Service {
	s := &mirror.Service{Key: mirror.Key{Namespace: "team", Name: name}, Labels: l, OwnLabels: map[string]string{LabelLoadBalancer: "web", LabelPool: ""}}
	for range endpoints {
		s.Slices = append(s.Slices, mirror.Slice{Endpoints: []mirror.Endpoint{{Addresses: []string{"10.0.0.1"}}}})
	}
	return s
}

func entriesOf(services ...*mirror.Service) map[string]*entry {
	entries := map[string]*entry{}
	for _, s := range services {
		entries[s.Name] = &entry{services: []*mirror.Service{s}}
	}
	return entries
}

func TestNewInventory(t *testing.T) {
	unsettled := service("d", 0, nil)
	unsettled.Unsettled = true
	entries := entriesOf(service("a", 1, map[string]string{"tier": "web"}), service("b", 2, map[string]string{"tier": ""}), service("c", 1, nil), unsettled)
	most := upstream.Limits{Services: 4, Endpoints: 4, Bytes: 1 << 20}
	for selector, want := range map[string][]string{
		"":                           {"a", "b", "c", "d"},
		"tier=web":                   {"a", "d"},
		"tier":                       {"a", "b", "d"},
		"!tier":                      {"c", "d"},
		"tier!=web":                  {"b", "c", "d"},
		LabelLoadBalancer + "=web":   {"a", "b", "c", "d"},
		LabelLoadBalancer + "=other": {"d"},
		LabelPool:                    {"d"},
	} {
		parsed, err := labels.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := newInventory(entries, most, Selection{Selection: mirror.Selection{Labels: parsed}})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, k := range inv.keys() {
			names = append(names, k.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q: got %v", selector, names)
		}
	}
	for what, limits := range map[string]upstream.Limits{
		"services": {Services: 3, Endpoints: 4, Bytes: 1 << 20}, "endpoints": {Services: 4, Endpoints: 3, Bytes: 1 << 20}, "bytes of services": {Services: 4, Endpoints: 4, Bytes: 2000},
	} {
		if _, err := newInventory(entries, limits, Selection{}); err == nil || !strings.HasSuffix(err.Error(), " "+what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// Two load balancers that both claim a pool, as Octavia has none, don't take turns.
func TestNewInventoryDoesntDependOnChance(t *testing.T) {
	first, second := service("pool-p", 1, nil), service("pool-p", 2, nil)
	for range 50 {
		inv, err := newInventory(map[string]*entry{"a": {services: []*mirror.Service{first}}, "b": {services: []*mirror.Service{second}}}, upstream.DefaultLimits(), Selection{})
		if err != nil || inv.services[first.Key] != second {
			t.Fatalf("got %s, error %v", text(inv.services), err)
		}
	}
}

func TestChangedKeys(t *testing.T) {
	make := func(services ...*mirror.Service) *inventory {
		inv, err := newInventory(entriesOf(services...), upstream.DefaultLimits(), Selection{})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	same := service("a", 1, nil)
	old := make(same, service("b", 1, nil), service("c", 1, nil), service("e", 1, nil))
	keys := make(same, service("b", 1, nil), service("c", 2, nil), service("d", 1, nil)).changed(old)
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"c", "d", "e"}) {
		t.Errorf("got %v", keys)
	}
}
