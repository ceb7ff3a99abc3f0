package agent

import (
	"context"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"

	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	// refusedRetry is after how long a key that the central cluster refused is tried again.
	refusedRetry = 15 * time.Second
	// retryMax bounds the backoff of a key whose write failed.
	retryMax = 10 * time.Second
)

// work reconciles keys until the queue shuts down.
func (a *Agent) work(ctx context.Context) {
	for {
		key, priority, shutdown := a.queue.GetWithPriority()
		if shutdown {
			return
		}
		a.workOn(ctx, key, priority)
		a.queue.Done(key)
	}
}

// workOn reconciles one key, and says what becomes of it.
func (a *Agent) workOn(ctx context.Context, key mirror.Key, priority int) {
	a.mu.Lock()
	since, live := a.seen[key]
	delete(a.seen, key)
	a.mu.Unlock()
	err := a.try(ctx, key, live)
	if live {
		a.observePropagation(key, since, err)
	}
	opts := priorityqueue.AddOpts{Priority: &priority}
	switch {
	case err == nil:
		a.queue.Forget(key)
	case errors.Is(err, errRefused):
		a.queue.Forget(key)
		low := lowPriority
		opts.After, opts.Priority = refusedRetry, &low
		a.queue.AddWithOpts(opts, key)
	default:
		opts.RateLimited = true
		a.queue.AddWithOpts(opts, key)
	}
	a.markLookedAt(key)
}

func (a *Agent) try(ctx context.Context, key mirror.Key, live bool) (err error) {
	defer func() {
		if panicked := (*panicError)(nil); errors.As(err, &panicked) {
			a.panicked(key, panicked)
			a.fail(key, panicked)
		}
	}()
	defer recovered(&err)
	return a.reconcile(ctx, key, live)
}

// panicked tells of a panic.
func (a *Agent) panicked(key mirror.Key, err error) {
	stack := ""
	if p := (*panicError)(nil); errors.As(err, &p) {
		stack = p.stack
	}
	a.config.Metrics.panicked(a.config.Upstream)
	a.config.Logger.Error("a Service makes the agent panic; it is tried again", "key", key.String(), "error", err, "stack", stack)
}

// observePropagation observes how long a live change took to be written, retries included.
func (a *Agent) observePropagation(key mirror.Key, since time.Time, err error) {
	if err == nil {
		a.config.Metrics.propagated(a.config.Upstream, a.config.Clock.Since(since))
		return
	}
	a.mu.Lock()
	a.seen[key] = since // it is older than a change that came meanwhile
	a.mu.Unlock()
}

// markLookedAt records that a key has been looked at.
func (a *Agent) markLookedAt(key mirror.Key) {
	a.mu.Lock()
	delete(a.first, key)
	settles := !a.settled && len(a.first) == 0
	a.settled = a.settled || settles
	a.mu.Unlock()
	if settles {
		a.tell()
		a.config.StatusChanged()
	}
}

// hasSettled reports whether every key has been looked at since the agent started.
func (a *Agent) hasSettled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settled
}
