package openstack

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// settledAfter is how long after a change, by the server's clock, no other change can bear its time: Octavia's
	// times have whole seconds.
	settledAfter = 2 * time.Second
	// unsettledNotice is for how long a load balancer may be in the middle of changes before that is told.
	unsettledNotice = time.Minute
)

// inventory is what was read of a cloud at one time. It is never changed.
type inventory struct {
	projects []project
	entries  map[string]*entry // by the load balancer's id
	services map[mirror.Key]*mirror.Service
}

// entry is one load balancer as it was read.
type entry struct {
	// seen is what could be seen of the load balancer without its members: a hash.
	seen      uint64
	namespace string
	services  []*mirror.Service

	// settled says that the services are known; else they are those of an earlier entry, or only named.
	settled bool
	// final says that no later change can look like the one that was read.
	final bool
	// reread is when the members are read again though nothing has changed.
	reread time.Time
	// read is what an unsettled entry would be if it settled: a hash.
	read uint64
	// since is when the entry stopped being settled.
	since time.Time
}

// seen returns a hash of what can be seen of a load balancer without its members.
func (t *tree) seen() uint64 {
	states := make([]string, len(t.pools))
	for i, p := range t.pools {
		states[i] = p.ID + " " + p.Operating
	}
	return digest([]any{t.loadBalancer, t.place.namespace, t.place.own, t.addresses, states})
}

// current reports whether an entry still says what there is of t, whose members haven't
// been read: the load balancer is as it was when it had been at rest for a while, its
// pools are in the same health, and none of them is so that a member's health could
// change without showing there.
func (e *entry) current(t *tree, now time.Time) bool {
	return e != nil && e.settled && e.final && t.Provisioning == "ACTIVE" && now.Before(e.reread) &&
		e.seen == t.seen() && !slices.ContainsFunc(t.pools, func(p *poolTree) bool { return p.Operating == "DEGRADED" || p.Operating == "ERROR" })
}

// reading is what came of reading a load balancer.
type reading struct {
	tree  *tree
	clock time.Time    // the server's, before anything was read
	after loadBalancer // the load balancer after all had been read
	torn  bool         // parts that don't fit together were read, so there was a change
}

// settle makes the entry of a reading. The services are taken over if nothing was
// changing while they were read: the load balancer was at rest before and after, with the
// same time of its last change, and either that was long enough ago for no other change
// to bear the same time, or an earlier reading found the same. Otherwise those of the
// entry before stand, and without one they stay as the central cluster has them.
func (r *reading) settle(before *entry, addressing v1alpha1.OpenStackAddressing, now time.Time, health time.Duration) *entry {
	t := r.tree
	e := &entry{seen: t.seen(), namespace: t.place.namespace}
	changed := t.changed()
	quiet := t.stable() && r.after.Provisioning == t.Provisioning && r.after.changed().Equal(changed) && !r.torn
	e.final = quiet && !changed.IsZero() && r.clock.Sub(changed) >= settledAfter
	services := t.services(addressing)
	if quiet && !e.final {
		e.read = digest(services)
		e.settled = before != nil && before.read == e.read
	}
	if e.settled = e.settled || e.final; e.settled {
		e.services = services
		e.reread = now.Add(health)
		if before == nil { // not all at once next time
			e.reread = now.Add(spread(t.ID, health))
		}
		return e
	}
	e.since = now
	if before != nil {
		e.services = before.services
		if !before.settled {
			e.since = before.since
		}
	}
	if before == nil || before.namespace != t.place.namespace {
		e.services = t.named()
	}
	if now.Sub(e.since) >= unsettledNotice {
		e.services = t.told(e.services)
	}
	return e
}

// named returns the Services that there may be of a load balancer, without saying what they are.
func (t *tree) named() []*mirror.Service {
	services := []*mirror.Service{{Key: t.serviceKey(), Unsettled: true}}
	for _, p := range t.pools {
		services = append(services, &mirror.Service{Key: t.poolKey(p), Unsettled: true})
	}
	return services
}

// told returns services with a refusal that says why they don't change.
func (t *tree) told(services []*mirror.Service) []*mirror.Service {
	services = slices.Clone(services)
	for i, s := range services {
		if s.Key != t.serviceKey() || slices.ContainsFunc(s.Refusals, func(r mirror.Refusal) bool { return r.Reason == ReasonUnsettled }) {
			continue
		}
		told := *s
		told.Refusals = slices.Clone(s.Refusals)
		note(&told, ReasonUnsettled, "load balancer %s has been changing for more than %s, at last it was %.20s; its Services stay as they were; if Octavia is stuck, have its operator reset or fail over the load balancer",
			t.ID, unsettledNotice, t.Provisioning)
		services[i] = &told
	}
	return services
}

// digest returns a hash of what can be marshalled. It is never 0.
func digest(v any) uint64 {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(v) // a hash doesn't fail, and what it is called with has no unmarshallable field
	return h.Sum64() | 1
}

// spread returns a share of d that depends on the id.
func spread(id string, d time.Duration) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(id))
	return d * time.Duration(h.Sum32()%1000) / 1000
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

// unsettled reports whether a load balancer was in the middle of a change.
func (inv *inventory) unsettled() bool {
	for _, e := range inv.entries {
		if !e.settled {
			return true
		}
	}
	return false
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
