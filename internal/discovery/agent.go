package discovery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// lowPriority is that of keys that a listing or a resync found; live changes go first.
	lowPriority = -100
	// refusedRetry is after how long a key that the central cluster refused is tried again.
	refusedRetry = 15 * time.Second
	// retryMax bounds the backoff of a key whose write failed.
	retryMax = 10 * time.Second
)

// agentOptions are what an agent needs.
type agentOptions struct {
	Name   string
	Source upstream.Source
	Client kubernetes.Interface
	Rules  mirror.Rules
	// AllowedCIDRs are those of Rules.Addresses, which is made anew when the central cluster's ranges change.
	AllowedCIDRs []string
	Guard        mirror.Guard
	Holding      bool                // a hold was in force when the upstream was last served
	Taken        map[mirror.Key]bool // whose central names an earlier agent found taken
	StaleAfter   time.Duration       // 0: never
	LastView     time.Time           // last complete view of an earlier agent; zero if none
	Workers      int
	Namespaces   namespaceSet
	Metrics      *Metrics
	Logger       *slog.Logger
	Clock        clock.WithTicker
	// Leads says whether the upstream's Lease is held: without it nothing is written.
	Leads func() bool
	// Refused is called with refusals that were not there before: first with all of the first pass, then as they come.
	Refused func([]refused)
	// Dirty is called, often, when the agent's status may have changed. It returns at once.
	Dirty func()
}

// namespaceSet says which central namespaces objects can be created in.
type namespaceSet interface{ Has(name string) bool }

// agent keeps one upstream's central objects as the upstream has them:
// key → desired (source) + current (central) → changes → apply.
type agent struct {
	agentOptions
	rules    atomic.Pointer[mirror.Rules]
	central  *central
	applier  *applier
	guard    *guard
	refusals *refusals
	queue    priorityqueue.PriorityQueue[mirror.Key]

	// usable is closed at the source's first complete view, or when an upstream that
	// was out of contact before this agent started expires.
	usable chan struct{}
	use    sync.Once

	mu       sync.Mutex
	seen     map[mirror.Key]time.Time // live changes that are not yet written
	waiting  map[mirror.Key]bool      // keys without a central namespace
	started  bool                     // source and central view were complete; the workers run
	first    map[mirror.Key]bool      // keys of the first pass that are still to come
	settled  bool                     // the first pass is over
	untold   []refused                // refusals of the first pass
	complete bool                     // the source is complete now
	lastView time.Time
	failure  *upstream.Error // why the source isn't complete
	writeErr error           // the last failed write, until one succeeds
	expired  bool
}

func newAgent(o agentOptions) *agent {
	a := &agent{
		agentOptions: o,
		refusals:     newRefusals(),
		seen:         map[mirror.Key]time.Time{},
		waiting:      map[mirror.Key]bool{},
		lastView:     o.LastView,
		usable:       make(chan struct{}),
	}
	a.rules.Store(&o.Rules)
	a.central = newCentral(o.Client, o.Name, a.centralChanged)
	a.applier = &applier{client: o.Client, view: a.central, backend: o.Name, metrics: o.Metrics, leads: o.Leads}
	a.guard = newGuard(o.Guard, o.Holding, o.Clock.Now, a.orphans)
	a.queue = priorityqueue.New(o.Name, func(q *priorityqueue.Opts[mirror.Key]) {
		q.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[mirror.Key](5*time.Millisecond, retryMax)
	})
	return a
}

// Run serves the upstream until ctx ends, and returns when everything it started has ended.
func (a *agent) Run(ctx context.Context) {
	defer a.Metrics.forget(a.Name)
	a.Metrics.reachable.WithLabelValues(a.Name).Set(0)
	a.Metrics.lastComplete.WithLabelValues(a.Name).Set(seconds(a.LastView))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { <-ctx.Done(); a.queue.ShutDown() })
	wg.Go(func() { a.central.Run(ctx) })
	wg.Go(func() {
		if err := a.Source.Run(ctx, a); err != nil && ctx.Err() == nil {
			a.Failed(&upstream.Error{Reason: upstream.ReasonServerError, Err: err})
		}
	})
	wg.Go(func() { a.keepTime(ctx) })
	for _, view := range []<-chan struct{}{a.central.complete, a.usable} {
		select {
		case <-ctx.Done():
			return
		case <-view:
		}
	}
	a.guard.Begin()
	a.begin(slices.Concat(a.Source.Keys(), a.central.Keys()))
	for range a.Workers {
		wg.Go(func() { a.work(ctx) })
	}
}

// begin queues the keys of the first pass.
func (a *agent) begin(keys []mirror.Key) {
	a.mu.Lock()
	a.first = make(map[mirror.Key]bool, len(keys))
	for _, k := range keys {
		a.first[k] = true
	}
	a.started, a.settled = true, len(keys) == 0
	a.mu.Unlock()
	a.Relisted(keys...)
	a.Dirty()
}

// passed records that a key has been looked at.
func (a *agent) passed(key mirror.Key) {
	a.mu.Lock()
	delete(a.first, key)
	settles := !a.settled && len(a.first) == 0
	a.settled = a.settled || settles
	untold := a.untold
	if settles {
		a.untold = nil
	}
	a.mu.Unlock()
	if settles {
		a.Refused(untold)
		a.Dirty()
	}
}

// tell hands on refusals, those of the first pass together at its end.
func (a *agent) tell(news []refused) {
	a.mu.Lock()
	settled := a.settled
	if !settled {
		a.untold = append(a.untold, news...)
	}
	a.mu.Unlock()
	if settled {
		a.Refused(news)
	}
}

// keepTime lets the upstream expire, where that is asked for.
func (a *agent) keepTime(ctx context.Context) {
	ticker := a.Clock.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		a.mu.Lock()
		expire := a.StaleAfter > 0 && !a.complete && !a.expired && !a.lastView.IsZero() &&
			a.Clock.Since(a.lastView) > a.StaleAfter
		a.expired = a.expired || expire
		a.mu.Unlock()
		if expire {
			a.use.Do(func() { close(a.usable) })
			a.Logger.Warn("upstream expired: its endpoints are marked not ready", "staleAfter", a.StaleAfter)
			a.Resync()
		}
	}
}

// Resync queues every key that either side has, so that orphans need no path of their own.
func (a *agent) Resync() {
	a.Relisted(a.Source.Keys()...)
	a.Relisted(a.central.Keys()...)
}

// NamespaceChanged queues the keys of a central namespace that appeared or went.
func (a *agent) NamespaceChanged(namespace string) {
	var keys []mirror.Key
	for _, k := range a.Source.Keys() {
		if k.Namespace == namespace {
			keys = append(keys, k)
		}
	}
	a.enqueue(0, keys)
}

// SetAddresses replaces the address policy and checks every key against it.
func (a *agent) SetAddresses(p mirror.AddressPolicy) {
	rules := *a.rules.Load()
	rules.Addresses = p
	a.rules.Store(&rules)
	a.Resync()
}

// Confirm lets held deletions happen if there are at most n, and returns how many there are.
func (a *agent) Confirm(n int) (confirmed bool, due int) {
	keys, due := a.guard.Confirm(n)
	a.enqueue(0, keys)
	return len(keys) > 0, due
}

// Update implements upstream.Observer.
func (a *agent) Update(u upstream.Urgency, change func() []mirror.Key) {
	keys := change()
	if u == upstream.Listed {
		a.Relisted(keys...)
		return
	}
	now := a.Clock.Now()
	a.mu.Lock()
	for _, k := range keys {
		if _, ok := a.seen[k]; !ok {
			a.seen[k] = now
		}
	}
	a.mu.Unlock()
	a.enqueue(0, keys)
}

// Relisted queues keys that can wait.
func (a *agent) Relisted(keys ...mirror.Key) { a.enqueue(lowPriority, keys) }

// Complete implements upstream.Observer.
func (a *agent) Complete() {
	now := a.Clock.Now()
	a.mu.Lock()
	was, expired := a.complete, a.expired
	a.complete, a.expired, a.failure, a.lastView = true, false, nil, now
	a.mu.Unlock()
	a.use.Do(func() { close(a.usable) })
	a.Metrics.reachable.WithLabelValues(a.Name).Set(1)
	a.Metrics.lastComplete.WithLabelValues(a.Name).Set(seconds(now))
	if expired {
		a.Resync()
	}
	if !was {
		a.Logger.Info("view of the upstream is complete", "services", len(a.Source.Keys()))
		a.Dirty()
	}
}

// Polled implements upstream.Observer.
func (a *agent) Polled(c upstream.Cycle) {
	a.Metrics.cycle.WithLabelValues(a.Name).Observe(c.Duration.Seconds())
	a.Metrics.requests.WithLabelValues(a.Name).Set(float64(c.Requests))
}

// Failed implements upstream.Observer.
func (a *agent) Failed(err *upstream.Error) {
	a.mu.Lock()
	news := a.complete || a.failure == nil || a.failure.Reason != err.Reason
	a.complete, a.failure = false, err
	a.mu.Unlock()
	a.Metrics.reachable.WithLabelValues(a.Name).Set(0)
	a.Metrics.failures.WithLabelValues(a.Name, string(err.Reason)).Inc()
	if news {
		a.Logger.Warn("upstream can't be read; its Services stay as they are", "reason", err.Reason, "error", err.Error())
		a.Dirty()
	}
}

// seconds returns t as Prometheus wants times: 0 if it never was.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func (a *agent) centralChanged(relisted bool, keys ...mirror.Key) {
	if relisted {
		a.Relisted(keys...)
	} else {
		a.enqueue(0, keys)
	}
}

func (a *agent) enqueue(priority int, keys []mirror.Key) {
	if len(keys) > 0 {
		a.queue.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(priority)}, keys...)
	}
}

// orphans returns the keys of central Services that the upstream no longer has, or has in a form that is refused.
func (a *agent) orphans() (keys []mirror.Key, total int) {
	owned, rules := a.central.ServiceKeys(), a.rules.Load()
	for _, k := range owned {
		if s, ok := a.Source.Service(k); !ok || rules.Refuses(s) {
			keys = append(keys, k)
		}
	}
	return keys, len(owned)
}

// work reconciles keys until the queue shuts down.
func (a *agent) work(ctx context.Context) {
	for {
		key, priority, shutdown := a.queue.GetWithPriority()
		if shutdown {
			return
		}
		a.mu.Lock()
		seen, live := a.seen[key]
		delete(a.seen, key)
		a.mu.Unlock()
		err := a.reconcile(ctx, key)
		a.settle(key, priority, err)
		a.passed(key)
		if err == nil && live {
			a.Metrics.propagation.WithLabelValues(a.Name).Observe(a.Clock.Since(seen).Seconds())
		}
		a.queue.Done(key)
	}
}

// settle says what becomes of a key after an attempt.
func (a *agent) settle(key mirror.Key, priority int, err error) {
	opts := priorityqueue.AddOpts{Priority: &priority}
	switch {
	case err == nil:
		a.queue.Forget(key)
	case errors.Is(err, errRetryLater):
		a.queue.Forget(key)
		opts.After, opts.Priority = refusedRetry, ptr.To(lowPriority)
		a.queue.AddWithOpts(opts, key)
	default:
		opts.RateLimited = true
		a.queue.AddWithOpts(opts, key)
	}
	if errors.Is(err, errBehind) || errors.Is(err, errRetryLater) || errors.Is(err, errNotLeading) {
		return
	}
	a.mu.Lock()
	was := a.writeErr
	a.writeErr = err
	a.mu.Unlock()
	if (was == nil) != (err == nil) {
		a.Dirty()
	}
	if err != nil && was == nil {
		a.Logger.Warn("writing to the central cluster failed; it is tried again", "key", key.String(), "error", err)
	}
}
