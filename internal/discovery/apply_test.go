package discovery

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// A replica that can't know whether it still holds the Lease writes nothing.
func TestNothingIsWrittenWithoutTheLease(t *testing.T) {
	a := &applier{leads: func() bool { return false }} // it has no client to write with
	change := mirror.Change{Verb: mirror.Create, Service: &corev1.Service{}}
	if err := a.Apply(t.Context(), []mirror.Change{change}, false); !errors.Is(err, errNotLeading) {
		t.Errorf("error %v, want %v", err, errNotLeading)
	}
}

func TestLeaseIsFreshAfterItsRenewal(t *testing.T) {
	l := &modestLock{spread: newSpread()}
	if l.fresh(time.Hour) {
		t.Error("a Lease that was never taken is fresh")
	}
	if err := l.timed(func() error { return nil }); err != nil || !l.fresh(time.Hour) {
		t.Error("a Lease that was just renewed isn't fresh")
	}
	old := time.Now().Add(-time.Minute)
	l.renewed.Store(&old)
	if err := l.timed(func() error { return errors.New("no answer") }); err == nil || l.fresh(30*time.Second) {
		t.Error("a Lease is fresh for a renewal that failed")
	}
	l.release()
	if l.fresh(time.Hour) {
		t.Error("a Lease that was given back is fresh")
	}
}
