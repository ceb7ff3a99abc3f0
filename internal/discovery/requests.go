package discovery

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// requests are what the controller is asked to look at. What is added before its queue is
// open waits.
type requests struct {
	mu      sync.Mutex
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
	waiting []reconcile.Request
	synced  []toolscache.InformerSynced
}

// openAfter has the queue opened only after a handler has been told of everything that was there.
func (r *requests) openAfter(synced toolscache.InformerSynced) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.synced = append(r.synced, synced)
}

// add has upstreams looked at after a pause.
func (r *requests) add(pause time.Duration, all ...reconcile.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue == nil {
		r.waiting = append(r.waiting, all...)
		return
	}
	for _, one := range all {
		r.queue.AddAfter(one, pause)
	}
}

// open takes the controller's queue. It is a source.Func.
func (r *requests) open(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.mu.Lock()
	synced := r.synced
	r.mu.Unlock()
	err := wait.PollUntilContextCancel(ctx, 2*time.Millisecond, true, func(context.Context) (bool, error) {
		for _, is := range synced {
			if !is() {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return nil // the controller ends
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = queue
	for _, one := range r.waiting {
		queue.Add(one)
	}
	r.waiting = nil
	return nil
}
