package lease

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// maxRelease bounds giving a Lease back: an API server that hangs mustn't keep the process from ending.
const maxRelease = 5 * time.Second

// Options are what a Contender needs.
type Options struct {
	// Name is the upstream's, Namespace the Lease's.
	Name, Namespace string
	// Identity is this replica's name; no two replicas share one.
	Identity string
	Client   coordinationv1client.LeasesGetter
	Times    Times
	Spread   *Spread
	Logger   *slog.Logger
	// Clock tells how old the last renewal is; nil is the real one.
	Clock clock.PassiveClock
	// Won is called when the Lease was taken. Its context ends with the Lease. It returns at once.
	Won func(ctx context.Context)
	// Lost is called after each Won, once its context has ended. It may block until the work
	// under the Lease has ended: only then is the Lease given back or competed for again.
	Lost func()
}

// Contender competes for one upstream's Lease, so that one replica at a time serves it.
type Contender struct {
	options Options
	lock    *spreadLock

	// turns has Won and Lost called in turn.
	turns sync.Mutex

	mu      sync.Mutex
	work    context.Context // of the last Won; nil before it and after its Lost began
	endWork context.CancelFunc
}

// New returns a Contender, or an error if the times can't be used.
func New(o Options) (*Contender, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: Name(o.Name)},
		Client:     o.Client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
	}
	c := &Contender{options: o, lock: &spreadLock{Interface: lock, spread: o.Spread, clock: o.Clock}}
	if _, err := c.elector(context.Background()); err != nil {
		return nil, fmt.Errorf("competing for Lease %s/%s: %w", o.Namespace, Name(o.Name), err)
	}
	return c, nil
}

func (c *Contender) elector(run context.Context) (*leaderelection.LeaderElector, error) {
	return leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: c.lock, Name: c.options.Name,
		LeaseDuration: c.options.Times.Duration, RenewDeadline: c.options.Times.Renew, RetryPeriod: c.options.Times.Retry,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(led context.Context) { c.begin(run, led) },
			OnStoppedLeading: c.end,
		},
	})
}

// Run competes until ctx ends. While Lost is waited for, the Lease is renewed; then it is
// given back, for which Run takes the time of a renewal at most, and at most 5 s.
func (c *Contender) Run(ctx context.Context) {
	detached := context.WithoutCancel(ctx)
	elected, stop := context.WithCancel(klog.NewContext(detached, logr.Discard()))
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		c.end()
		stop()
	}()
	for ctx.Err() == nil {
		elector, err := c.elector(ctx)
		if err != nil { // New has checked the times
			c.options.Logger.Error("the Lease can't be competed for", "upstream", c.options.Name, "error", err)
			return
		}
		elector.Run(elected)
		c.lock.forget()
	}
	<-ended
	if c.lock.mayHold {
		c.release(detached)
	}
}

func (c *Contender) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(c.options.Times.Renew, maxRelease))
	defer cancel()
	if err := c.lock.release(ctx); err != nil {
		c.options.Logger.Warn("the Lease wasn't given back; another replica takes it when it has expired",
			"upstream", c.options.Name, "error", err)
	}
}

// begin calls Won, unless the Lease has ended meanwhile or Run is about to end.
func (c *Contender) begin(run, led context.Context) {
	c.turns.Lock()
	defer c.turns.Unlock()
	if run.Err() != nil || led.Err() != nil {
		return
	}
	work, endWork := context.WithCancel(led)
	c.mu.Lock()
	c.work, c.endWork = work, endWork
	c.mu.Unlock()
	c.options.Logger.Info("serving upstream", "upstream", c.options.Name)
	c.options.Won(work)
}

// end ends the work under the Lease, if there is any, and waits for it.
func (c *Contender) end() {
	c.turns.Lock()
	defer c.turns.Unlock()
	c.mu.Lock()
	endWork := c.endWork
	c.work, c.endWork = nil, nil
	c.mu.Unlock()
	if endWork == nil {
		return
	}
	endWork()
	c.options.Lost()
	c.options.Logger.Info("no longer serving upstream", "upstream", c.options.Name)
}

// Leads says whether this replica surely holds the Lease now. While it is false, nothing
// may be written for the upstream: another replica may serve it.
func (c *Contender) Leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.work != nil && c.work.Err() == nil && c.lock.fresh(c.options.Times.Renew)
}

// Decided says whether it was known at least once whose the Lease is: another replica's or this one's.
func (c *Contender) Decided() bool { return c.lock.decided.Load() }
