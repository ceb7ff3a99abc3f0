package discovery

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// leaseTimes are the times of an upstream's Lease (see leaderelection.LeaderElectionConfig).
type leaseTimes struct{ Duration, Renew, Retry time.Duration }

// contender competes for one upstream's Lease, so that one replica at a time
// serves it, and holds that upstream's agent while it leads.
type contender struct {
	name   string
	lock   *modestLock
	times  leaseTimes
	logger *slog.Logger
	// ledChanged is called when the Lease was won or lost.
	ledChanged func(won bool)

	mu          sync.Mutex
	led         context.Context // ends with the Lease; nil while not leading
	agent       *agent
	fingerprint [sha256.Size]byte
	stopAgent   func() // ends the agent and waits for it
}

// leaseName is the name of an upstream's Lease.
func leaseName(upstream string) string { return "gimbal-upstream-" + upstream }

func newContender(name, namespace, identity string, client coordinationv1.LeasesGetter, times leaseTimes, spread *spread, logger *slog.Logger, ledChanged func(bool)) *contender {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: leaseName(name)},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	return &contender{
		name: name, times: times, logger: logger, ledChanged: ledChanged,
		lock: &modestLock{Interface: lock, spread: spread},
	}
}

// Run competes until ctx ends. It gives the Lease up only when the agent has ended.
func (c *contender) Run(ctx context.Context) {
	quiet := klog.NewContext(context.WithoutCancel(ctx), logr.Discard())
	elected, release := context.WithCancel(quiet)
	go func() {
		<-ctx.Done()
		c.StopAgent()
		release()
	}()
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: c.lock, Name: c.name, ReleaseOnCancel: true,
			LeaseDuration: c.times.Duration, RenewDeadline: c.times.Renew, RetryPeriod: c.times.Retry,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: c.won, OnStoppedLeading: c.lost},
		})
		if err != nil {
			c.logger.Error("lease times can't be used", "upstream", c.name, "error", err)
			return
		}
		elector.Run(elected)
		c.lock.release()
	}
}

func (c *contender) won(led context.Context) {
	c.mu.Lock()
	c.led = led
	c.mu.Unlock()
	c.logger.Info("serving upstream", "upstream", c.name)
	c.ledChanged(true)
}

func (c *contender) lost() {
	c.mu.Lock()
	was := c.led != nil
	c.led = nil
	c.mu.Unlock()
	c.StopAgent()
	if was {
		c.logger.Info("no longer serving upstream", "upstream", c.name)
		c.ledChanged(false)
	}
}

// Leads says whether this replica serves the upstream.
func (c *contender) Leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.led != nil && c.led.Err() == nil && c.lock.fresh(c.times.Renew)
}

// Agent returns the running agent and what it was made from, or nil.
func (c *contender) Agent() (*agent, [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agent, c.fingerprint
}

// StartAgent runs a; the one before it must have been stopped. Without the Lease it does nothing.
func (c *contender) StartAgent(a *agent, fingerprint [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.led == nil || c.led.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.led)
	done := make(chan struct{})
	c.agent, c.fingerprint = a, fingerprint
	c.stopAgent = func() { cancel(); <-done }
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
}

// StopAgent ends the agent, if there is one, and waits until it has.
func (c *contender) StopAgent() {
	c.mu.Lock()
	stop := c.stopAgent
	c.agent, c.stopAgent = nil, nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Holder returns which replica holds an upstream's Lease now, or "" if none does.
func Holder(ctx context.Context, client kubernetes.Interface, namespace, upstream string, now time.Time) (string, error) {
	lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, leaseName(upstream), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading Lease %s/%s: %w", namespace, leaseName(upstream), err)
	}
	s := lease.Spec
	if s.HolderIdentity == nil || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return "", nil
	}
	if now.Sub(s.RenewTime.Time) > time.Duration(*s.LeaseDurationSeconds)*time.Second {
		return "", nil
	}
	return *s.HolderIdentity, nil
}
