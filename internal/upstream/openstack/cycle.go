package openstack

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// parallel is how many requests of one cloud are under way at once.
	parallel = 24
	// cycleTimeout is how long a cycle may take: a cloud that answers each of many requests just in time fails too.
	cycleTimeout = 10 * time.Minute
)

// nobody is a project that there isn't.
const nobody = "00000000000000000000000000000000"

// lists are what one cycle reads in bulk.
type lists struct {
	projects      []project
	loadBalancers []loadBalancer
	clock         time.Time // the server's, before the load balancers were listed
	listeners     []listener
	pools         []pool
	floating      floating
}

// cycle reads the cloud: everything in bulk but members, and those of the load balancers
// that may have changed since the inventory before. It returns a complete inventory or an error.
func (s *Source) cycle(ctx context.Context, before *inventory) (*inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, cycleTimeout)
	defer cancel()
	if err := s.session.authenticate(ctx); err != nil {
		return nil, err
	}
	l, err := s.lists(ctx, before)
	if err != nil {
		return nil, err
	}
	if err := s.confirmGone(ctx, before, l.loadBalancers); err != nil {
		return nil, err
	}
	now, clock, projects, total := time.Now(), l.clock, l.projects, len(l.loadBalancers)
	trees := s.trees(l)
	if err := s.seesFloating(ctx, trees, l.floating); err != nil {
		return nil, err
	}
	// From here on the lists, which are large, can go.
	entries := make(map[string]*entry, len(trees))
	var readings []*reading
	for _, t := range trees {
		switch e := before.entries[t.ID]; {
		case t.place.reason != "":
			entries[t.ID] = &entry{namespace: t.place.namespace, services: t.services(s.options.Addressing), settled: true}
		case e.current(t, now):
			entries[t.ID] = e
		default:
			readings = append(readings, &reading{tree: t, clock: clock})
		}
	}
	if err := s.readMembers(ctx, readings); err != nil {
		return nil, err
	}
	if err := s.verify(ctx, readings, total); err != nil {
		return nil, err
	}
	for _, r := range readings {
		entries[r.tree.ID] = r.settle(before.entries[r.tree.ID], s.options.Addressing, now, pace{s.options.PollInterval, s.options.HealthInterval})
	}
	found, err := newInventory(entries, s.options.Limits, s.options.Selection)
	if err == nil {
		found.projects, found.identity = projects, s.session.cloudIdentity()
	}
	return found, err
}

// octavia is a collection of every project's objects, whether they are selected or not: of
// those that are, newInventory limits the number.
func (s *Source) octavia(path string) collection {
	l := s.options.Limits
	return collection{api: s.session.octavia, path: path, name: path, most: amount{l.Slices, l.Bytes}, selects: true, read: new(usage)}
}

// members is the collection of a pool's members. Those of all pools share what may be read of them.
func (s *Source) members(p *poolTree, read *usage) collection {
	c := s.octavia("pools/" + url.PathEscape(p.ID) + "/members")
	c.name, c.most.objects, c.read = "members", s.options.Limits.Endpoints, read
	return c
}

// lists reads everything but members. The load balancers come first, so that what
// changes later on shows when they are read again, and so do rights that are lost meanwhile.
func (s *Source) lists(ctx context.Context, before *inventory) (*lists, error) {
	l := &lists{}
	group, all := errgroup.WithContext(ctx)
	group.Go(func() (err error) { l.projects, err = s.projects(all, before); return err })
	group.Go(func() (err error) {
		l.loadBalancers, l.clock, err = list[loadBalancer](all, s.session, s.octavia("loadbalancers"))
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	group, all = errgroup.WithContext(ctx)
	group.Go(func() error { return s.seesAll(all) })
	group.Go(func() (err error) {
		l.listeners, _, err = list[listener](all, s.session, s.octavia("listeners"))
		return err
	})
	if s.options.Addressing == v1alpha1.AddressingVIP {
		group.Go(func() (err error) { l.floating, err = s.floatingIPs(all); return err })
	} else {
		group.Go(func() (err error) {
			l.pools, _, err = list[pool](all, s.session, s.octavia("pools"))
			return err
		})
	}
	return l, group.Wait()
}

// projects lists the projects that the credential sees, its own among them. Where one is
// gone that was there before, they are listed again, and it must be gone there too: a project
// that disappears takes its Services along.
func (s *Source) projects(ctx context.Context, before *inventory) ([]project, error) {
	all, err := s.listProjects(ctx)
	if err != nil {
		return nil, err
	}
	if len(missing(all, []project{{ID: s.session.project.ID}})) > 0 {
		return nil, errors.New("projects: the listing leaves out the credential's own project")
	}
	gone := missing(all, before.projects)
	if len(gone) == 0 {
		return all, nil
	}
	again, err := s.listProjects(ctx)
	if err != nil {
		return nil, err
	}
	if len(missing(again, gone)) < len(gone) {
		return nil, errors.New("projects: two listings differ")
	}
	return append(all, missing(all, again)...), nil // those that were made meanwhile
}

func (s *Source) listProjects(ctx context.Context) ([]project, error) {
	l := s.options.Limits
	all, _, err := list[project](ctx, s.session, collection{
		api: s.session.identity, path: "auth/projects", name: "projects", most: amount{l.Slices, l.Bytes}, read: new(usage),
	})
	return all, err
}

// missing returns those of the projects that aren't listed.
func missing(listed, projects []project) []project {
	ids := make(map[string]bool, len(listed))
	for _, p := range listed {
		ids[p.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(projects), func(p project) bool { return ids[p.ID] })
}

// seesAll makes sure that listings hold every project's load balancers. Octavia lists the
// own project's to whom isn't allowed more, without a word; of another project's it says
// that they are forbidden.
func (s *Source) seesAll(ctx context.Context) error {
	if s.options.Selection.only(project{ID: s.session.project.ID, Name: s.session.project.Name}) {
		return nil
	}
	_, err := s.session.get(ctx, s.session.octavia, "loadbalancers", url.Values{"project_id": {nobody}, "limit": {"1"}}, unread)
	if gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		return errOwnProjectOnly
	}
	return err
}

// confirmGone asks for each load balancer that is listed no more, and fails where there is
// one after all: a listing that leaves something out deletes nothing.
func (s *Source) confirmGone(ctx context.Context, before *inventory, listed []loadBalancer) error {
	gone := maps.Clone(before.entries)
	for _, lb := range listed {
		delete(gone, lb.ID)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for id := range gone {
		group.Go(func() error {
			lb, err := s.loadBalancer(ctx, id)
			if err == nil && lb.ID != "" {
				return errors.New("loadbalancers: the listing leaves out a load balancer that there is")
			}
			return err
		})
	}
	return group.Wait()
}

// loadBalancer reads one load balancer, which has no id where there is none.
func (s *Source) loadBalancer(ctx context.Context, id string) (lb loadBalancer, err error) {
	_, err = s.session.get(ctx, s.session.octavia, "loadbalancers/"+url.PathEscape(id), nil, func(body io.Reader) (err error) {
		if lb, err = one[loadBalancer](body, "loadbalancer"); err != nil || lb.ID != id {
			return errors.New("loadbalancers: the answer isn't the load balancer")
		}
		return nil
	})
	return lb, vanished(err)
}

// probe asks Octavia and Keystone for next to nothing.
func (s *Source) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(probeTimeout, s.options.RequestTimeout))
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := s.session.get(ctx, s.session.octavia, "loadbalancers", url.Values{"limit": {"1"}}, unread)
		return err
	})
	group.Go(func() error {
		_, err := s.session.get(ctx, s.session.identity, "", nil, unread)
		return err
	})
	return group.Wait()
}

// trees puts together what hangs below each load balancer that is selected.
func (s *Source) trees(l *lists) []*tree {
	places := s.options.Selection.places(l.projects, s.session.project.Domain.ID)
	byID := make(map[string]*tree, len(l.loadBalancers))
	trees := make([]*tree, 0, len(l.loadBalancers))
	for _, lb := range l.loadBalancers {
		at, known := places[lb.ProjectID]
		if !known {
			at = s.options.Selection.unknown(lb.ProjectID)
		}
		if at.namespace == "" {
			continue
		}
		lb.sort()
		t := &tree{loadBalancer: lb, place: at}
		if s.options.Addressing == v1alpha1.AddressingVIP {
			t.addresses = addressesOf(lb, l.floating.byPort)
		}
		byID[lb.ID] = t
		trees = append(trees, t)
	}
	listened := map[string]bool{}
	for _, li := range l.listeners {
		listened[li.DefaultPool] = true
		for _, r := range li.LoadBalancers {
			if t := byID[r.ID]; t != nil {
				t.listeners = append(t.listeners, li)
			}
		}
	}
	for _, p := range l.pools {
		for _, r := range p.LoadBalancers {
			if t := byID[r.ID]; t != nil {
				t.pools = append(t.pools, &poolTree{pool: p, listened: listened[p.ID]})
			}
		}
	}
	for _, t := range trees {
		slices.SortFunc(t.listeners, func(a, b listener) int { return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.ID, b.ID)) })
		slices.SortFunc(t.pools, func(a, b *poolTree) int { return strings.Compare(a.ID, b.ID) })
	}
	return trees
}

// readMembers reads the members of the pools that are to be read, several at once.
func (s *Source) readMembers(ctx context.Context, readings []*reading) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	read := new(usage)
	for _, r := range readings {
		r.torn = !r.tree.complete(s.options.Addressing)
		for _, p := range r.tree.pools {
			if !r.tree.wants(p, s.options.Addressing) {
				continue
			}
			group.Go(func() (err error) {
				ctx := upstream.NewAllowance(int64(s.options.Limits.Bytes / parallel)).With(ctx)
				p.members, _, err = list[member](ctx, s.session, s.members(p, read))
				return vanished(err)
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, r := range readings {
		r.torn = r.torn || slices.ContainsFunc(r.tree.pools, func(p *poolTree) bool {
			return r.tree.wants(p, s.options.Addressing) && !covers(p.Members, p.members)
		})
	}
	return nil
}

// vanished takes the answer that there is no such object for an empty one: it was deleted
// since it was listed, which shows elsewhere.
func vanished(err error) error {
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// complete reports whether the listeners and pools that were read are those that the load balancer names.
func (t *tree) complete(addressing v1alpha1.OpenStackAddressing) bool {
	return covers(t.Listeners, t.listeners) && (addressing == v1alpha1.AddressingVIP || covers(t.Pools, t.pools))
}

// verify reads again the load balancers whose members have been read. Where these are many
// all are listed, which takes fewer requests. Pages come one after the other, so a few are read
// one by one though that takes more. One that is gone meanwhile has no status.
func (s *Source) verify(ctx context.Context, readings []*reading, total int) error {
	if pages := total/pageSize + 1; len(readings) > pages && len(readings) >= total/20 {
		all, _, err := list[standing](ctx, s.session, s.octavia("loadbalancers"))
		byID := make(map[string]standing, len(readings))
		for _, lb := range all {
			byID[lb.ID] = lb
		}
		for _, r := range readings {
			r.after = byID[r.tree.ID].loadBalancer()
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, r := range readings {
		group.Go(func() (err error) {
			r.after, err = s.loadBalancer(ctx, r.tree.ID)
			return err
		})
	}
	return group.Wait()
}

// pause returns when the next cycle is to come after a complete one, which took so long: after
// the poll interval, or sooner where a load balancer in the middle of a change is due. A
// cycle reads the whole cloud, so those that come sooner are few, and far enough from each
// other to be a third of the time at most.
func (s *Source) pause(found *inventory, took time.Duration) time.Duration {
	due, unsettled := found.followUp()
	if !unsettled {
		return s.options.PollInterval
	}
	pause := max(time.Until(due), 2*took, s.followUps.Reserve().Delay())
	return max(0, min(s.options.PollInterval, pause))
}

// retry returns when a cycle that failed so many times is to come again. Credentials that
// are refused aren't tried often, lest their user is locked out.
func retry(reason upstream.Reason, failures int, interval time.Duration) time.Duration {
	shortest, longest := time.Second, max(interval, 5*time.Second)
	switch reason {
	case upstream.ReasonUnauthorized:
		shortest, longest = 10*time.Second, time.Minute
	case upstream.ReasonUnreachable, upstream.ReasonTimeout:
		longest = 5 * time.Second
	case upstream.ReasonTooLarge:
		shortest, longest = time.Minute, time.Minute
	}
	return min(longest, shortest<<min(failures-1, 12))
}
