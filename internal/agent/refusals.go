package agent

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// standing is how long a refusal must have stood before it is told: a change upstream often
// comes in several steps, such as a port that is renamed in the Service and then in its slices.
const standing = 3 * time.Second

// Refused is a refusal, and the UID of the central Service if there is one.
type Refused struct {
	mirror.Refusal
	Service types.UID
}

// refusals are an upstream's refusals at present, by key.
type refusals struct {
	now   func() time.Time
	mu    sync.Mutex
	byKey map[mirror.Key][]mirror.Refusal
	count map[mirror.Reason]int
	total int
	// untold are keys that have refusals which haven't been told.
	untold map[mirror.Key]untold
}

type untold struct {
	since    time.Time
	refusals []mirror.Refusal
}

func newRefusals(now func() time.Time) *refusals {
	return &refusals{now: now, byKey: map[mirror.Key][]mirror.Refusal{}, count: map[mirror.Reason]int{}, untold: map[mirror.Key]untold{}}
}

// Set replaces a key's refusals and reports whether that is a change.
func (r *refusals) Set(key mirror.Key, now []mirror.Refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.byKey[key]
	if slices.Equal(old, now) {
		return false
	}
	for _, o := range old {
		r.count[o.Reason]--
	}
	var added []mirror.Refusal
	for _, n := range now {
		r.count[n.Reason]++
		if !slices.Contains(old, n) {
			added = append(added, n)
		}
	}
	r.total += len(now) - len(old)
	if len(now) == 0 {
		delete(r.byKey, key)
	} else {
		r.byKey[key] = slices.Clone(now)
	}
	r.addUntold(key, added, now)
	return true
}

// addUntold adds what is new of a key to what is to be told, and drops what is over.
func (r *refusals) addUntold(key mirror.Key, added, now []mirror.Refusal) {
	u, ok := r.untold[key]
	if !ok {
		u.since = r.now()
	}
	u.refusals = slices.DeleteFunc(append(u.refusals, added...), func(f mirror.Refusal) bool { return !slices.Contains(now, f) })
	if len(u.refusals) == 0 {
		delete(r.untold, key)
		return
	}
	r.untold[key] = u
}

// News returns, once, the refusals that have stood for a while, or all, in order of key.
func (r *refusals) News(all bool) []mirror.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var news []mirror.Refusal
	for _, key := range slices.SortedFunc(maps.Keys(r.untold), mirror.Key.Compare) {
		if u := r.untold[key]; all || r.now().Sub(u.since) >= standing {
			news = append(news, u.refusals...)
			delete(r.untold, key)
		}
	}
	return news
}

// Has reports whether a key has a refusal of that reason.
func (r *refusals) Has(key mirror.Key, reason mirror.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.byKey[key], func(f mirror.Refusal) bool { return f.Reason == reason })
}

// Counts returns the number of refusals by reason. A reason that has occurred stays, with 0.
func (r *refusals) Counts() map[mirror.Reason]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.count)
}

// First returns the number of refusals and the first n in order of key.
func (r *refusals) First(n int) (total int, first []mirror.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range slices.SortedFunc(maps.Keys(r.byKey), mirror.Key.Compare) {
		for _, f := range r.byKey[k] {
			if len(first) == n {
				return r.total, first
			}
			first = append(first, f)
		}
	}
	return r.total, first
}
