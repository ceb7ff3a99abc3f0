package preview

import (
	"context"
	"sync"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// list runs a source until its first complete view. stop ends it.
func list(ctx context.Context, s upstream.Source) (stop func(), err error) {
	run, cancel := context.WithCancel(ctx)
	first := &firstView{complete: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(run, first) // ends with run, and says nothing else
	}()
	stop = func() { cancel(); <-ended }
	select {
	case <-first.complete:
		return stop, nil
	case <-ctx.Done():
		stop()
		if failure := first.failure(); failure != nil {
			return nil, failure
		}
		return nil, ctx.Err()
	}
}

// firstView is an upstream.Observer that waits for the first complete view.
type firstView struct {
	once     sync.Once
	complete chan struct{}
	mu       sync.Mutex
	last     *upstream.Error
}

func (*firstView) Update(_ upstream.Urgency, change func() []mirror.Key) { change() }
func (*firstView) Polled(upstream.Cycle)                                 {}
func (f *firstView) Complete()                                           { f.once.Do(func() { close(f.complete) }) }

func (f *firstView) Failed(err *upstream.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = err
}

func (f *firstView) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return nil
	}
	return f.last
}
