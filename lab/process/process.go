// Package process runs the lab's long-lived programs: each with a log of its
// own, in a network namespace if wanted, and dead when its parent dies.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Spec says what to run.
type Spec struct {
	// Name is what messages call the program.
	Name string
	// Path is the program's file.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is its whole environment; nil means the parent's.
	Env []string
	// Dir is its working directory; empty means the parent's.
	Dir string
	// Log is the file that takes its standard output and error, appended to.
	Log string
	// NetNS is the path of the network namespace it runs in; empty means the parent's.
	NetNS string
}

// Process is one running program.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts the program that spec describes. The program is killed when the
// calling process ends, however it ends.
func Start(spec Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(spec.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = spec.Env, spec.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := In(spec.NetNS, cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// In calls f on a thread that is in the network namespace at path; an empty
// path means the namespace that the process is in.
func In(path string, f func() error) error {
	if path == "" {
		return f()
	}
	return Aside(func() error {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", path, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return f()
	})
}

// Aside calls f, which may change its thread's network namespace, on a thread
// that is put back into the namespace it was in.
//
// The thread goes back to the runtime's pool afterwards and never ends, since a
// child's parent-death signal is tied to the thread that started it.
func Aside(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			result <- fmt.Errorf("read the current network namespace: %w", err)
			return
		}
		defer home.Close()
		err = f()
		if back := netns.Set(home); back != nil {
			result <- errors.Join(err, fmt.Errorf("return to the network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Name is what messages call the program.
func (p *Process) Name() string { return p.spec.Name }

// Done is closed once the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Failure explains, with the end of its log, why a program that was to go on
// has ended. It returns nil as long as the program runs.
func (p *Process) Failure() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%w); %s ends with:\n%s", p.spec.Name, exitError(p.err), p.spec.Log, Tail(p.spec.Log, 15))
	default:
		return nil
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Pause stops the program in its tracks: its connections stay open and nothing answers.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused program go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.spec.Name, err)
	}
	return nil
}

// Stop asks the program to end, kills it after grace, and returns when it has
// ended. Stopping a program that has ended does nothing.
func (p *Process) Stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// Kill ends the program at once and returns when it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Await calls ready until it returns nil. It gives up when ctx ends, with
// ready's last error, or when p ends, with p's Failure; a nil p never ends.
func Await(ctx context.Context, p *Process, ready func(context.Context) error) error {
	var ended <-chan struct{}
	if p != nil {
		ended = p.Done()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if p == nil {
				return fmt.Errorf("%w (last seen: %w)", context.Cause(ctx), err)
			}
			return fmt.Errorf("%s is not ready: %w (last seen: %w); %s ends with:\n%s",
				p.spec.Name, context.Cause(ctx), err, p.spec.Log, Tail(p.spec.Log, 15))
		case <-ended:
			return p.Failure()
		case <-tick.C:
		}
	}
}

// Tail returns the last n lines of the file at path, or why it can't be read.
func Tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
