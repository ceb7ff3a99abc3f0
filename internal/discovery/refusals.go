package discovery

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// refused is a refusal, and the UID of the central Service if there is one.
type refused struct {
	mirror.Refusal
	service types.UID
}

// refusals are an upstream's refusals at present, by key.
type refusals struct {
	mu    sync.Mutex
	byKey map[mirror.Key][]mirror.Refusal
	count map[mirror.Reason]int
}

func newRefusals() *refusals {
	return &refusals{byKey: map[mirror.Key][]mirror.Refusal{}, count: map[mirror.Reason]int{}}
}

// Set replaces a key's refusals and returns those that are new.
func (r *refusals) Set(key mirror.Key, now []mirror.Refusal) (added []mirror.Refusal, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.byKey[key]
	if slices.Equal(old, now) {
		return nil, false
	}
	for _, o := range old {
		r.count[o.Reason]--
	}
	for _, n := range now {
		r.count[n.Reason]++
		if !slices.Contains(old, n) {
			added = append(added, n)
		}
	}
	if len(now) == 0 {
		delete(r.byKey, key)
	} else {
		r.byKey[key] = slices.Clone(now)
	}
	return added, true
}

// Has says whether a key has a refusal of a reason.
func (r *refusals) Has(key mirror.Key, reason mirror.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.byKey[key], func(x mirror.Refusal) bool { return x.Reason == reason })
}

// Counts returns how many refusals there are of each reason that ever occurred.
func (r *refusals) Counts() map[mirror.Reason]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[mirror.Reason]int, len(r.count))
	for k, v := range r.count {
		out[k] = v
	}
	return out
}

// First returns the number of refusals and the first n in order of key.
func (r *refusals) First(n int) (total int, first []mirror.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]mirror.Key, 0, len(r.byKey))
	for k, v := range r.byKey {
		keys = append(keys, k)
		total += len(v)
	}
	slices.SortFunc(keys, mirror.Key.Compare)
	for _, k := range keys {
		for _, x := range r.byKey[k] {
			if len(first) == n {
				return total, first
			}
			first = append(first, x)
		}
	}
	return total, first
}
