package openstack

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// inventory is what was read of a cloud at one time. It is never changed.
type inventory struct {
	identity string // of the cloud
	projects []project
	entries  map[string]*entry // by the load balancer's id
	services map[mirror.Key]*mirror.Service
}

// newInventory makes an inventory of entries, or fails where it goes past the limits.
func newInventory(entries map[string]*entry, l upstream.Limits, selection Selection) (*inventory, error) {
	inv := &inventory{entries: entries, services: make(map[mirror.Key]*mirror.Service, len(entries))}
	endpoints, bytes := 0, 0
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		for _, s := range entries[id].services {
			if selection.Labels != nil && !s.Unsettled && !selection.Labels.Matches(labelsOf(s)) {
				continue
			}
			inv.services[s.Key] = s
			n, b := size(s)
			endpoints, bytes = endpoints+n, bytes+b
		}
	}
	for _, of := range []struct {
		used, limit int
		what        string
	}{
		{len(inv.services), l.Services, "services"}, {endpoints, l.Endpoints, "endpoints"}, {bytes, l.Bytes, "bytes of services"},
	} {
		if of.used > of.limit {
			return nil, &upstream.TooLarge{Limit: of.limit, What: of.what}
		}
	}
	return inv, nil
}

// labelsOf returns the labels of a Service by which it can be selected: the tags', and Gimbal's own that aren't empty.
func labelsOf(s *mirror.Service) labels.Set {
	l := make(labels.Set, len(s.Labels)+len(s.OwnLabels))
	maps.Copy(l, s.Labels)
	for key, v := range s.OwnLabels {
		if v != "" {
			l[key] = v
		}
	}
	return l
}

// size returns about how much of the budget a Service takes.
func size(s *mirror.Service) (endpoints, bytes int) {
	bytes = 512
	for k, v := range s.Labels {
		bytes += 32 + len(k) + len(v)
	}
	for i := range s.Slices {
		endpoints += len(s.Slices[i].Endpoints)
		bytes += 256 + 160*len(s.Slices[i].Endpoints)
	}
	return endpoints, bytes
}

// followUp returns when the first load balancer that didn't settle is due, if there is one.
func (inv *inventory) followUp() (due time.Time, unsettled bool) {
	for _, e := range inv.entries {
		if !e.settled && (!unsettled || e.due.Before(due)) {
			due, unsettled = e.due, true
		}
	}
	return due, unsettled
}

// changed returns the keys of which two inventories say different things, sorted.
func (inv *inventory) changed(old *inventory) []mirror.Key {
	var keys []mirror.Key
	for k, s := range inv.services {
		if before := old.services[k]; before != s && !reflect.DeepEqual(before, s) {
			keys = append(keys, k)
		}
	}
	for k := range old.services {
		if inv.services[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, mirror.Key.Compare)
	return keys
}

// keys returns the keys of all Services, sorted.
func (inv *inventory) keys() []mirror.Key {
	return slices.SortedFunc(maps.Keys(inv.services), mirror.Key.Compare)
}
