package process_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/lab/process"
)

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Spec{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "script.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestFailureShowsTheLog(t *testing.T) {
	p := start(t, "echo no such flag; exit 3")
	<-p.Done()
	err := p.Failure()
	if err == nil || !strings.Contains(err.Error(), "no such flag") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("failure is %v", err)
	}
}

func TestAwaitGivesUpWhenTheProgramEnds(t *testing.T) {
	p := start(t, "exit 1")
	notYet := errors.New("not yet")
	err := process.Await(t.Context(), p, func(context.Context) error { return notYet })
	if err == nil || errors.Is(err, notYet) {
		t.Errorf("Await returns %v, want the program's failure", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := process.Await(ctx, nil, func(context.Context) error { return notYet }); !errors.Is(err, notYet) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Await returns %v, want the deadline and what was seen last", err)
	}
}

func TestStopKillsWhatDoesntListen(t *testing.T) {
	p := start(t, "trap '' TERM; while :; do read x; done < /dev/zero")
	if err := p.Failure(); err != nil {
		t.Fatal(err)
	}
	p.Stop(10 * time.Millisecond)
	if p.Failure() == nil {
		t.Error("the program runs on")
	}
	p.Stop(time.Second)
}
