package kubernetes

import (
	"errors"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// store is where a reflector puts items.
type store struct {
	source   *Source
	resource *resource
}

func (s store) Add(o any) error    { return s.put(o.(*item), o.(*item).row) }
func (s store) Update(o any) error { return s.put(o.(*item), o.(*item).row) }
func (s store) Delete(o any) error { return s.put(o.(*item), nil) }
func (s store) Resync() error      { return nil }

func (s store) put(i *item, r row) error {
	s.source.put(s.resource, i.key, r)
	return nil
}

// Replace hands over the whole content of the resource.
func (s store) Replace(list []any, _ string) error {
	rows := make(map[mirror.Key]row, len(list))
	for _, o := range list {
		i, ok := o.(*item)
		if !ok {
			return errors.New("a listing holds what isn't an item")
		}
		if i.row != nil {
			rows[i.key] = i.row
		}
	}
	s.source.takeListing(s.resource, rows)
	return nil
}

// relistAll says that a resource is going to be listed again, and has the others listed
// again with it: a view is taken in as a whole. Else an upstream that lists nothing
// would have its endpoints gone before its Services are, whose deletion is guarded.
func (s *Source) relistAll(r *resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probeSoon()
	if r.mustList {
		return
	}
	for _, other := range s.resources {
		if !other.mustList && other != r {
			other.requestRelist()
		}
		other.mustList = true
	}
}

// mustList says whether a resource has to be listed again.
func (s *Source) mustList(r *resource) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.mustList
}

// put takes in a single object of a resource; row is nil where it is gone.
func (s *Source) put(r *resource, key mirror.Key, row row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.listing == nil {
		change := func() []mirror.Key { return s.inventory.put(r.kind, key, row) }
		if s.announced {
			s.observer.Update(upstream.Live, change)
		} else {
			change()
		}
		return
	}
	if old := r.listing[key]; old != nil {
		r.used = r.used.minus(old.size())
		delete(r.listing, key)
	}
	if row != nil {
		r.used = r.used.plus(row.size())
		r.listing[key] = row
	}
}

// sizeWith returns the size that what is kept of a resource would have with the item. A
// listing that waits is bounded as the inventory is: the upstream decides how long it waits.
func (s *Source) sizeWith(r *resource, i *item) size {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.listing == nil {
		return s.inventory.sizeWith(r.kind, i)
	}
	used := r.used.plus(i.row.size())
	if old := r.listing[i.key]; old != nil {
		used = used.minus(old.size())
	}
	return used
}

// takeListing takes in a complete listing of a resource, once that of every other is complete too.
func (s *Source) takeListing(r *resource, rows map[mirror.Key]row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.synced, r.mustList, r.err, r.listing, r.used = true, false, nil, rows, size{}
	for _, row := range rows {
		r.used = r.used.plus(row.size())
	}
	if !s.all(func(r *resource) bool { return r.synced && !r.mustList }) {
		return
	}
	replace := func() (keys []mirror.Key) {
		for _, r := range s.resources {
			if r.listing != nil {
				keys = append(keys, s.inventory.replace(r.kind, r.listing)...)
				r.listing = nil
			}
		}
		return keys
	}
	if s.announced {
		s.observer.Update(upstream.Listed, replace)
		return
	}
	replace()
	s.confirm()
}
