// Package agent keeps the central objects of one upstream as the upstream has them.
//
// A Service's way through it goes forward only: the source or the central view changes
// (observe.go) → its key is queued → a worker takes the key (work.go) → mirror.Decide says
// what to do → the writer does it (reconcile.go).
package agent

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Config is what an Agent needs.
type Config struct {
	// Upstream is the upstream's name, which its central objects bear.
	Upstream string
	Source   upstream.Source
	// Client writes to the central cluster.
	Client kubernetes.Interface
	Rules  mirror.Rules
	Guard  mirror.GuardLimit
	// HoldLosses has losses of endpoints held back, not only told.
	HoldLosses bool
	// StaleAfter is after how long without contact endpoints are marked not ready; 0 is never.
	StaleAfter time.Duration
	// Past is what an earlier agent left behind.
	Past Past
	// Workers is how many keys are written at once.
	Workers    int
	Namespaces Namespaces
	Metrics    *Metrics
	Logger     *slog.Logger
	Clock      clock.WithTicker
	// Leads says whether the upstream's Lease is held: without it nothing is written.
	Leads func() bool
	// Refused is called with refusals that were not there before: first with all of the
	// first pass, then as they come. It returns at once.
	Refused func([]Refused)
	// StatusChanged is called, often, when the Snapshot may have changed. It returns at once.
	StatusChanged func()
}

// Past is what an earlier agent of the upstream left behind, as the status has it.
type Past struct {
	mirror.InForce
	// NamesTaken are keys whose central names were found taken.
	NamesTaken map[mirror.Key]bool
	// LastView is when the view was last known to be complete; zero if never.
	LastView time.Time
	// OutOfContact is since when the upstream is known to have been out of contact; zero if it isn't.
	OutOfContact time.Time
	// Identity is the cluster that the central objects are of; "" if that isn't known.
	Identity string
}

// Namespaces says in which central namespaces objects can be created.
type Namespaces interface{ Has(name string) bool }

// Agent serves one upstream. It implements upstream.Observer.
type Agent struct {
	config   Config
	view     *central.View
	writer   *central.Writer
	queue    priorityqueue.PriorityQueue[mirror.Key]
	refusals *refusals

	// usable is closed at the source's first complete view, or when an upstream that was
	// out of contact before this agent started expires.
	usable chan struct{}

	// deciding is held while views, guards or what is known of the upstream change, and for
	// reading while a decision is made.
	deciding sync.RWMutex
	guards   *mirror.Guards
	rules    mirror.Rules
	contact  contact
	begun    bool // the guards know what is due for every key

	mu       sync.Mutex
	seen     map[mirror.Key]time.Time // since when a live change waits to be written
	waiting  map[mirror.Key]bool      // for a central namespace
	failures map[mirror.Key]failure   // of writes, until they succeed
	first    map[mirror.Key]bool      // keys of the first pass that are still to come
	started  bool                     // the workers run
	settled  bool                     // the first pass is over
}

// New returns an Agent that does nothing yet.
func New(c Config) *Agent {
	a := &Agent{
		config:   c,
		refusals: newRefusals(c.Clock.Now),
		usable:   make(chan struct{}),
		guards:   mirror.NewGuards(c.Guard, c.HoldLosses, c.Past.InForce),
		rules:    c.Rules,
		contact:  newContact(c),
		seen:     map[mirror.Key]time.Time{},
		waiting:  map[mirror.Key]bool{},
		failures: map[mirror.Key]failure{},
	}
	owner := central.Upstream(c.Upstream)
	a.view = central.NewView(central.ViewOptions{Client: c.Client, Owner: owner, Update: a.centralUpdate, Answer: func(change func() []mirror.Key) { a.change(change) }})
	a.writer = central.NewWriter(central.WriterOptions{
		Client: c.Client, View: a.view, Owner: owner, Leads: c.Leads, Count: c.Metrics.Written(c.Upstream),
	})
	a.queue = priorityqueue.New(c.Upstream, func(q *priorityqueue.Opts[mirror.Key]) {
		q.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[mirror.Key](5*time.Millisecond, retryMax)
	})
	return a
}

// Run serves the upstream until ctx ends, and returns when everything it started has ended.
func (a *Agent) Run(ctx context.Context) {
	stop := a.config.Metrics.follow(a)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { <-ctx.Done(); a.queue.ShutDown() })
	wg.Go(func() { a.view.Run(ctx) })
	wg.Go(func() {
		if err := a.config.Source.Run(ctx, a); err != nil && ctx.Err() == nil {
			a.Failed(&upstream.Error{Reason: upstream.ReasonServerError, Err: err})
		}
	})
	wg.Go(func() { a.keepTime(ctx) })
	for _, complete := range []<-chan struct{}{a.view.Complete(), a.usable} {
		select {
		case <-ctx.Done():
			return
		case <-complete:
		}
	}
	a.begin()
	for range a.config.Workers {
		wg.Go(func() { a.work(ctx) })
	}
}

// begin queues the keys of the first pass.
func (a *Agent) begin() {
	a.deciding.Lock()
	keys := a.keys()
	a.noteAll()
	a.deciding.Unlock()
	a.mu.Lock()
	a.first = make(map[mirror.Key]bool, len(keys))
	for _, k := range keys {
		a.first[k] = true
	}
	a.started, a.settled = true, len(keys) == 0
	a.mu.Unlock()
	a.enqueue(lowPriority, keys)
	a.config.StatusChanged()
}

// keys returns every key that either side has, so that orphans need no path of their own.
func (a *Agent) keys() []mirror.Key {
	keys := slices.Concat(a.config.Source.Keys(), a.view.Keys())
	slices.SortFunc(keys, mirror.Key.Compare)
	return slices.Compact(keys)
}

// Resync looks at every key again.
func (a *Agent) Resync() { a.enqueue(lowPriority, a.keys()) }

// NamespaceChanged looks at the keys of a central namespace that appeared or went.
func (a *Agent) NamespaceChanged(namespace string) {
	keys := slices.DeleteFunc(a.config.Source.Keys(), func(k mirror.Key) bool { return k.Namespace != namespace })
	a.enqueue(livePriority, keys)
}

// SetRules replaces what may be mirrored and checks every key against it, if that is a change.
func (a *Agent) SetRules(r mirror.Rules) {
	a.deciding.Lock()
	same := reflect.DeepEqual(a.rules, r)
	a.rules = r
	if a.begun && !same {
		a.noteAll()
	}
	a.deciding.Unlock()
	if !same {
		a.Resync()
	}
}

// Relist has the central cluster listed again: its state may have gone back in time.
func (a *Agent) Relist() { a.view.Relist() }

// ConfirmDeletions lets held deletions happen if at most n are due, and returns how many are.
func (a *Agent) ConfirmDeletions(n int) (confirmed bool, due int) {
	a.deciding.Lock()
	keys, due := a.guards.Deletions.Confirm(n)
	a.deciding.Unlock()
	a.enqueue(livePriority, keys)
	return len(keys) > 0, due
}

// ConfirmLosses lets held losses of endpoints happen if at most n are due, and returns how many are.
func (a *Agent) ConfirmLosses(n int) (confirmed bool, due int) {
	a.deciding.Lock()
	keys, due := a.guards.Losses.Confirm(n)
	a.deciding.Unlock()
	a.enqueue(livePriority, keys)
	return len(keys) > 0, due
}

// ConfirmIdentity says that the cluster of this identity is meant. It reports whether that is
// the one which answers.
func (a *Agent) ConfirmIdentity(identity string) bool {
	a.deciding.Lock()
	ok := a.contact.complete && identity == a.config.Source.Identity()
	if ok {
		a.contact.identity, a.contact.other = identity, false
		a.noteAll()
	}
	a.deciding.Unlock()
	if ok {
		a.Resync()
		a.config.StatusChanged()
	}
	return ok
}
