package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// leases is a set of Leases that two replicas compete for.
type leases struct {
	mu     sync.Mutex
	holder map[string]string
}

func (l *leases) try(lease, replica string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder[lease] != "" {
		return errors.New("held")
	}
	l.holder[lease] = replica
	return nil
}

func TestSpread(t *testing.T) {
	const upstreams = 6
	l := &leases{holder: map[string]string{}}
	var wg sync.WaitGroup
	for _, replica := range []string{"a", "b"} {
		s := newSpread()
		for i := range upstreams {
			lease := fmt.Sprint(i)
			wg.Go(func() { _ = s.take(context.Background(), func() error { return l.try(lease, replica) }) })
		}
	}
	wg.Wait()
	count := map[string]int{}
	for _, r := range l.holder {
		count[r]++
	}
	if len(l.holder) != upstreams || count["a"] < 2 || count["b"] < 2 {
		t.Errorf("two replicas that start together share %d upstreams as %v", upstreams, count)
	}
}
