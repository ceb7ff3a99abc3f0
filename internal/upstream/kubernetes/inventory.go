package kubernetes

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// kind is a resource that is read.
type kind int

const (
	services kind = iota
	endpointSlices
	nodes
	kinds
)

func (k kind) String() string {
	return [...]string{"services", "endpointslices", "nodes"}[k]
}

// inventory is what is known of an upstream. It is safe for concurrent use.
type inventory struct {
	mu        sync.RWMutex
	rows      [kinds]map[mirror.Key]row
	used      [kinds]size
	byService map[mirror.Key][]*slice // in order of name
}

func newInventory() *inventory {
	inv := &inventory{byService: make(map[mirror.Key][]*slice)}
	for k := range inv.rows {
		inv.rows[k] = make(map[mirror.Key]row)
	}
	return inv
}

// put sets the row of a key, or removes it where r is nil, and returns the keys of
// the Services that it changes.
func (inv *inventory) put(k kind, key mirror.Key, r row) []mirror.Key {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	changed := make(map[mirror.Key]bool)
	inv.set(k, key, r, changed)
	return inv.keys(changed)
}

// replace sets all rows of a kind at once and returns the keys of the Services that it changes.
func (inv *inventory) replace(k kind, rows map[mirror.Key]row) []mirror.Key {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	changed := make(map[mirror.Key]bool)
	for key := range inv.rows[k] {
		if rows[key] == nil {
			inv.set(k, key, nil, changed)
		}
	}
	for key, r := range rows {
		inv.set(k, key, r, changed)
	}
	return inv.keys(changed)
}

// apiServerKey is the Service of the upstream's own API server, whose row is an apiServer.
var apiServerKey = mirror.Key{Namespace: "default", Name: "kubernetes"}

// everyNodePort, among changed keys, stands for every Service that has node ports.
var everyNodePort = mirror.Key{}

func (inv *inventory) set(k kind, key mirror.Key, r row, changed map[mirror.Key]bool) {
	old := inv.rows[k][key]
	if reflect.DeepEqual(old, r) {
		return
	}
	if old != nil {
		inv.used[k] = inv.used[k].minus(old.size())
		delete(inv.rows[k], key)
	}
	if r != nil {
		inv.used[k] = inv.used[k].plus(r.size())
		inv.rows[k][key] = r
	}
	switch k {
	case services:
		if key != apiServerKey {
			changed[key] = true
		}
	case endpointSlices:
		if s, ok := old.(*slice); ok {
			inv.unlink(s)
			inv.touch(s.service, changed)
		}
		if s, ok := r.(*slice); ok {
			inv.link(s)
			inv.touch(s.service, changed)
		}
	case nodes:
		changed[everyNodePort] = true
	}
}

// touch adds a Service to those that change, if there is one: a slice may come first.
func (inv *inventory) touch(key mirror.Key, changed map[mirror.Key]bool) {
	if _, ok := inv.rows[services][key].(*service); ok {
		changed[key] = true
	}
}

func (inv *inventory) link(s *slice) {
	list := inv.byService[s.service]
	at, _ := slices.BinarySearchFunc(list, s, byName)
	inv.byService[s.service] = slices.Insert(list, at, s)
}

func (inv *inventory) unlink(s *slice) {
	list := slices.DeleteFunc(inv.byService[s.service], func(other *slice) bool { return other == s })
	if len(list) == 0 {
		delete(inv.byService, s.service)
		return
	}
	inv.byService[s.service] = list
}

func byName(a, b *slice) int { return cmp.Compare(a.name, b.name) }

// keys returns the changed keys, sorted.
func (inv *inventory) keys(changed map[mirror.Key]bool) []mirror.Key {
	if changed[everyNodePort] {
		delete(changed, everyNodePort)
		for key, r := range inv.rows[services] {
			if s, ok := r.(*service); ok && s.exposure != nil && slices.ContainsFunc(s.exposure.nodePorts, func(p int32) bool { return p != 0 }) {
				changed[key] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(changed), mirror.Key.Compare)
}

// serviceKeys returns the keys of all Services, sorted.
func (inv *inventory) serviceKeys() []mirror.Key {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	keys := slices.SortedFunc(maps.Keys(inv.rows[services]), mirror.Key.Compare)
	return slices.DeleteFunc(keys, func(k mirror.Key) bool { return k == apiServerKey })
}

// identity returns the UID of default/kubernetes, or "" where that isn't known.
func (inv *inventory) identity() string {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	if a, ok := inv.rows[services][apiServerKey].(*apiServer); ok {
		return a.uid
	}
	return ""
}

// sizeWith returns the size that a kind would have with the item.
func (inv *inventory) sizeWith(k kind, i *item) size {
	inv.mu.RLock()
	defer inv.mu.RUnlock()
	used := inv.used[k].plus(i.row.size())
	if old := inv.rows[k][i.key]; old != nil {
		used = used.minus(old.size())
	}
	return used
}

// check returns an error where what is kept of a kind goes past the limits.
func check(l upstream.Limits, k kind, used size) error {
	objects := [...]int{l.Services, l.Slices, l.Nodes}[k]
	for _, of := range []struct {
		used, limit int
		what        string
	}{
		{used.objects, objects, k.String()},
		{used.endpoints, l.Endpoints, "endpoints"},
		{used.bytes, l.Bytes, "bytes of " + k.String()},
	} {
		if of.used > of.limit {
			return &upstream.TooLarge{Limit: of.limit, What: of.what}
		}
	}
	return nil
}
