package openstack

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"time"

	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	// settledAfter is how long after a change, by the server's clock, no other change can bear its time: Octavia's
	// times have whole seconds.
	settledAfter = 2 * time.Second
	// unsettledNotice is for how long a load balancer may be in the middle of changes before that is told.
	unsettledNotice = time.Minute
	// troubleIsNew is for how long members in trouble are read in each cycle after something of theirs changed.
	troubleIsNew = 5 * time.Minute
)

// entry is one load balancer as it was read.
type entry struct {
	// seen is what could be seen of the load balancer without its members: a hash.
	seen      uint64
	namespace string
	services  []*mirror.Service

	// settled says that the services are known; else they are those of an earlier entry, or only named.
	settled bool
	// conclusive says that no later change can look like the one that was read.
	conclusive bool
	// found is what was found while nothing was changing, where that may be compared with the next reading: a hash.
	found uint64
	// since is when the entry stopped being settled or, of one that is, when it began to be as it is.
	since time.Time
	// attempts is how often in a row the entry was read and didn't settle.
	attempts int
	// due is when the load balancer is read again though nothing shows a change.
	due time.Time
}

// pace says how often load balancers are read again.
type pace struct{ poll, health time.Duration }

// unsettled returns after how long one that didn't settle so often is read again.
func (p pace) unsettled(attempts int) time.Duration {
	return min(p.poll, time.Second<<min(attempts, 12))
}

// troubled returns after how long one is read again that has been in the same trouble since a
// time: at once, which is in the next cycle, while that is new, and then at least once a minute.
func (p pace) troubled(since time.Duration) time.Duration {
	if since < troubleIsNew {
		return 0
	}
	return max(0, min(4*p.poll, time.Minute)-p.poll/2) // cycles aren't punctual
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
// been read: the load balancer looks as it did, and it isn't yet time to read it again.
func (e *entry) current(t *tree, now time.Time) bool {
	return e != nil && now.Before(e.due) && e.seen == t.seen()
}

// troubled reports whether the health of a member may change without showing in what is
// listed in bulk. Octavia's heartbeats change the time of no load balancer, and the status of
// a pool only when its first member fails or its last one recovers.
func (t *tree) troubled() bool {
	return t.Provisioning != "ACTIVE" || slices.ContainsFunc(t.pools, func(p *poolTree) bool {
		return len(p.members) > 0 && (p.Operating == "DEGRADED" || p.Operating == "ERROR" || slices.ContainsFunc(p.members, member.troubled))
	})
}

// troubled reports whether a member is to take requests and doesn't.
func (m member) troubled() bool {
	return m.Enabled && (!m.serving() || m.Operating == "DRAINING" && ptr.Deref(m.Weight, 1) != 0)
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
func (r *reading) settle(before *entry, addressing v1alpha1.OpenStackAddressing, now time.Time, p pace) *entry {
	t := r.tree
	e := &entry{seen: t.seen(), namespace: t.place.namespace, since: now}
	changed := t.changed()
	quiet := t.stable() && r.after.Provisioning == t.Provisioning && r.after.changed().Equal(changed) && !r.torn
	e.conclusive = quiet && !changed.IsZero() && r.clock.Sub(changed) >= settledAfter
	services := t.services(addressing)
	troubled := t.troubled()
	if quiet && (!e.conclusive || troubled) {
		e.found = digest(services)
	}
	if e.settled = e.conclusive || quiet && before != nil && before.found == e.found; !e.settled {
		return e.keep(t, before, now, p)
	}
	e.services = services
	switch {
	case !e.conclusive:
		e.due = now
	case troubled:
		if before != nil && before.settled && before.seen == e.seen && before.found == e.found {
			e.since = before.since
		}
		e.due = now.Add(p.troubled(now.Sub(e.since)))
	case before == nil: // not all at once next time
		e.due = now.Add(spread(t.ID, p.health))
	default:
		e.due = now.Add(p.health)
	}
	return e
}

// keep makes an entry that didn't settle, with the services of the entry before.
func (e *entry) keep(t *tree, before *entry, now time.Time, p pace) *entry {
	if before != nil {
		e.services = before.services
		if !before.settled {
			e.since = before.since
			if before.seen == e.seen {
				e.attempts = before.attempts + 1
			}
		}
	}
	if before == nil || before.namespace != t.place.namespace {
		e.services = t.placeholders()
	}
	if now.Sub(e.since) >= unsettledNotice {
		e.services = t.withUnsettledNotice(e.services)
	}
	e.due = now.Add(p.unsettled(e.attempts))
	return e
}

// placeholders returns the Services that there may be of a load balancer, without saying what they are.
func (t *tree) placeholders() []*mirror.Service {
	services := []*mirror.Service{{Key: t.serviceKey(), Unsettled: true}}
	for _, p := range t.pools {
		services = append(services, &mirror.Service{Key: t.poolKey(p), Unsettled: true})
	}
	return services
}

// withUnsettledNotice returns services with a refusal that says why they don't change.
func (t *tree) withUnsettledNotice(services []*mirror.Service) []*mirror.Service {
	services = slices.Clone(services)
	for i, s := range services {
		if s.Key != t.serviceKey() || slices.ContainsFunc(s.Refusals, func(r mirror.Refusal) bool { return r.Reason == ReasonUnsettled }) {
			continue
		}
		noted := *s
		noted.Refusals = slices.Clone(s.Refusals)
		note(&noted, ReasonUnsettled, "load balancer %s has been changing for more than %s, at last it was %.20s; its Services stay as they were; if Octavia is stuck, have its operator reset or fail over the load balancer",
			t.ID, unsettledNotice, t.Provisioning)
		services[i] = &noted
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
