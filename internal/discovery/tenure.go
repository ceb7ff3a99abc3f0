package discovery

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/lease"
)

// tenure is one upstream in this replica: its place in the competition for the Lease and,
// while that is held, the upstream's agent or the removal of its objects. What takes long
// runs beside the controller's reconcilers: they ask, go on, and are called when it has ended.
type tenure struct {
	*lease.Contender
	withdraw func() // ends competing
	// changed is called when something that takes long has ended.
	changed func()
	served  atomic.Bool // since the Lease was won last

	// Only the upstream's reconciler uses it, of which there is one at a time.
	statusWritten time.Time

	mu      sync.Mutex
	lease   context.Context // ends with the Lease; nil while it isn't held
	running *running
	ending  chan struct{} // closed when the agent that is being stopped has ended
	removal *removal
	work    sync.WaitGroup
}

// running is an agent that runs, and what it was made from.
type running struct {
	agent       *agent.Agent
	upstream    *v1alpha1.UpstreamCluster
	fingerprint [sha256.Size]byte
	stop        context.CancelFunc
	ended       chan struct{}
}

// removal is the removal of an upstream's objects.
type removal struct {
	over bool
	err  error
}

// won takes the Lease.
func (t *tenure) won(lease context.Context) {
	t.mu.Lock()
	t.lease = lease
	t.mu.Unlock()
}

// lost gives the Lease up, when all that ran under it has ended.
func (t *tenure) lost() {
	t.mu.Lock()
	t.lease = nil
	t.served.Store(false)
	t.mu.Unlock()
	t.Stop()
	t.work.Wait()
	t.mu.Lock()
	t.removal = nil
	t.mu.Unlock()
}

// Agent returns the agent that runs, or nil.
func (t *tenure) Agent() *running {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// Start runs an agent. Without the Lease, or while another agent runs or ends, it does nothing.
func (t *tenure) Start(r *running) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease == nil || t.lease.Err() != nil || t.running != nil || t.ending != nil {
		return
	}
	ctx, cancel := context.WithCancel(t.lease)
	r.stop, r.ended = cancel, make(chan struct{})
	t.running = r
	t.work.Go(func() {
		defer close(r.ended)
		r.agent.Run(ctx)
	})
}

// Stop ends the agent, if there is one. It reports whether none runs any more; if not,
// changed is called when that is so.
func (t *tenure) Stop() (ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		return t.ending == nil
	}
	r := t.running
	t.running, t.ending = nil, r.ended
	r.stop()
	t.work.Go(func() {
		<-r.ended
		t.mu.Lock()
		t.ending = nil
		t.mu.Unlock()
		t.changed()
	})
	return false
}

// Remove runs a removal, under the Lease. It reports whether it is over, and how it ended; if it
// isn't, changed is called when it is.
func (t *tenure) Remove(remove func(context.Context) error) (over bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.removal; r != nil {
		if r.over {
			t.removal = nil
		}
		return r.over, r.err
	}
	if t.lease == nil || t.lease.Err() != nil {
		return false, nil
	}
	ctx, r := t.lease, &removal{}
	t.removal = r
	t.work.Go(func() {
		err := remove(ctx)
		t.mu.Lock()
		r.over, r.err = true, err
		t.mu.Unlock()
		t.changed()
	})
	return false, nil
}
