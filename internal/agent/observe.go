package agent

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

const (
	// lowPriority is that of keys that a listing or a resync found; live changes go first.
	lowPriority  = -100
	livePriority = 0
)

// Update implements upstream.Observer.
func (a *Agent) Update(u upstream.Urgency, change func() []mirror.Key) {
	if u == upstream.Listed {
		a.enqueue(lowPriority, a.change(func() []mirror.Key {
			keys := change()
			a.identify(false)
			return keys
		}))
		return
	}
	a.enqueue(livePriority, a.change(func() []mirror.Key {
		keys := change()
		a.identify(true)
		a.markLive(keys) // before anything is decided that takes the change into account
		return keys
	}))
}

// markLive records since when live changes wait to be written.
func (a *Agent) markLive(keys []mirror.Key) {
	now := a.config.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range keys {
		if _, ok := a.seen[k]; !ok {
			a.seen[k] = now
		}
	}
}

// isLive reports whether a live change of a key waits to be written.
func (a *Agent) isLive(key mirror.Key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, live := a.seen[key]
	return live
}

// centralUpdate has the view of the central cluster changed.
func (a *Agent) centralUpdate(relisted bool, change func() []mirror.Key) {
	keys := a.change(change)
	if relisted {
		a.enqueue(lowPriority, keys)
	} else {
		a.enqueue(livePriority, keys)
	}
}

// change has one side's view changed, and the guards told, while nothing is decided: what
// changes together is judged together.
func (a *Agent) change(change func() []mirror.Key) []mirror.Key {
	a.deciding.Lock()
	defer a.deciding.Unlock()
	keys := change()
	a.noteChanged(keys...)
	return keys
}

// noteChanged tells the guards what is due for keys that may have changed. It is called with
// deciding held.
func (a *Agent) noteChanged(keys ...mirror.Key) {
	if !a.begun || a.otherCluster() || len(keys) == 0 {
		return
	}
	before := a.held()
	a.note(keys...)
	if a.held() != before {
		a.config.StatusChanged()
	}
}

// held is what the guards hold and tell.
type held struct {
	deletions, losses, lost int
	raised                  bool
}

// held returns what the guards hold and tell. It is called with deciding held.
func (a *Agent) held() held {
	h := held{deletions: a.guards.Deletions.Held(), losses: a.guards.Losses.Held()}
	if h.raised, h.lost = a.guards.Losses.Raised(); !h.raised {
		h.lost = 0
	}
	return h
}

// noteAll tells the guards what is due for every key, if the upstream is known. It is
// called with deciding held.
func (a *Agent) noteAll() {
	if !a.contact.known || a.otherCluster() {
		return
	}
	keys := a.keys()
	if !a.begun {
		a.begun = true
		for _, k := range keys {
			if a.config.Past.LossesRaised && a.view.Holding(k) == (mirror.Holding{Service: true}) {
				a.guards.Losses.Remember(k)
			}
		}
	}
	a.note(keys...)
}

// note tells the guards what is due for some keys. It is called with deciding held.
func (a *Agent) note(keys ...mirror.Key) {
	for _, k := range keys {
		if err := a.noteOne(k); err != nil {
			a.panicked(k, err)
		}
	}
	total, _, _ := a.view.Counts()
	a.guards.Judge(total, a.config.Clock.Now())
}

func (a *Agent) noteOne(key mirror.Key) (err error) {
	defer recovered(&err)
	has, now := a.view.Holding(key), a.config.Clock.Now()
	if !has.Service {
		a.guards.Note(key, nil, has, a.rules, now)
		return nil
	}
	said, _ := a.config.Source.Service(key)
	a.guards.Note(key, said, has, a.rules, now)
	return nil
}

// otherCluster reports whether the source reads another cluster than the central objects
// are of. It is called with deciding held.
func (a *Agent) otherCluster() bool {
	return a.contact.differs(cmp.Or(a.config.Source.Identity(), a.contact.answered))
}

// identify takes in which cluster the source reads now; live says that a watch has seen it
// change. It is called with deciding held.
func (a *Agent) identify(live bool) {
	if !a.contact.answersAs(a.config.Source.Identity(), live) {
		return
	}
	was := a.contact.other
	a.contact.other = a.otherCluster()
	switch {
	case a.contact.other:
		a.config.Logger.Warn("another cluster answers: nothing is written until that is confirmed", "was", a.contact.identity, "is", a.contact.answers)
	case was: // what changed meanwhile hasn't been noted
		a.noteAll()
		a.Resync()
	}
	a.config.StatusChanged()
}

// Complete implements upstream.Observer.
func (a *Agent) Complete() {
	a.deciding.Lock()
	was := a.contact
	a.contact.confirmed(a.config.Clock.Now(), a.config.Source.Identity())
	a.identify(false)
	if !was.known && a.hasStarted() {
		a.noteAll()
	}
	a.deciding.Unlock()
	if !was.known {
		a.markUsable()
	}
	if was.expired || !was.known && a.hasStarted() {
		a.Resync()
	}
	if !was.complete {
		a.config.Logger.Info("view of the upstream is complete", "services", len(a.config.Source.Keys()))
		a.config.StatusChanged()
	}
}

// Polled implements upstream.Observer.
func (a *Agent) Polled(c upstream.Cycle) { a.config.Metrics.polled(a.config.Upstream, c) }

// Failed implements upstream.Observer.
func (a *Agent) Failed(err *upstream.Error) {
	a.deciding.Lock()
	isNew := a.contact.lost(err, a.config.Clock.Now())
	a.deciding.Unlock()
	a.config.Metrics.failed(a.config.Upstream, err)
	if isNew {
		a.config.Logger.Warn("upstream can't be read; its Services stay as they are", "reason", err.Reason, "error", err.Error())
		a.config.StatusChanged()
	}
}

// keepTime does once a second what depends on the time: an upstream expires, where that is
// asked for, refusals that have stood for a while are told, and guards forget.
func (a *Agent) keepTime(ctx context.Context) {
	ticker := a.config.Clock.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			a.expire()
			a.tell()
		}
	}
}

func (a *Agent) expire() {
	a.deciding.Lock()
	expired := a.contact.expire(a.config.StaleAfter, a.config.Clock.Now())
	a.deciding.Unlock()
	if expired {
		a.config.Logger.Warn("upstream expired: its endpoints are marked not ready", "staleAfter", a.config.StaleAfter)
		a.markUsable()
		a.Resync()
		a.config.StatusChanged()
	}
}

// markUsable lets the first pass begin.
func (a *Agent) markUsable() {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.usable:
	default:
		close(a.usable)
	}
}

func (a *Agent) hasStarted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

func (a *Agent) enqueue(priority int, keys []mirror.Key) {
	if len(keys) > 0 {
		a.queue.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(priority)}, keys...)
	}
}

// recovered turns a panic into an error with its stack: what one key brings about mustn't
// end the others.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{value: fmt.Sprint(p), stack: string(debug.Stack())}
	}
}

// panicError is a panic that was recovered from.
type panicError struct{ value, stack string }

func (e *panicError) Error() string { return "panic: " + e.value }
