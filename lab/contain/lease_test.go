package contain

import (
	"errors"
	"os"
	"strconv"
	"testing"
)

func TestLease(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("leases are root's")
	}
	name := "test-" + strconv.Itoa(os.Getpid())
	running := func() bool {
		t.Helper()
		r, err := Running(name)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if running() {
		t.Error("a lab that never was runs")
	}
	first, err := Acquire(name)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	if !running() {
		t.Error("a lab with a lease doesn't run")
	}
	if _, err := Acquire(name); !errors.Is(err, ErrRunning) {
		t.Errorf("the same name twice: %v", err)
	}
	other, err := Acquire(name + "-other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if other.Index == first.Index {
		t.Errorf("two labs have index %d", other.Index)
	}
	first.Release()
	if running() {
		t.Error("a lab that gave its lease back runs")
	}
}
