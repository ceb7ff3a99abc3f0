// Package contain runs a command in pid, mount and network namespaces of its
// own, so that ending one process, even with SIGKILL, ends every process, mount
// and namespace below it. What namespaces don't hold — cgroups, files, the
// host's end of a veth pair — a small process outside removes afterwards.
package contain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// The names that the program, started again as one of this package's own
// processes, finds as its zeroth argument.
const (
	initName   = "gimbal-lab-init"
	reaperName = "gimbal-lab-reaper"
)

// Remains is what a lab leaves outside its namespaces, to be removed at the end.
type Remains struct {
	// Link is a network interface.
	Link string
	// Dir is a directory.
	Dir string
	// Cgroup is a directory in every cgroup hierarchy.
	Cgroup string
}

// Box is a place to run a command contained, with a process outside that stands
// ready to remove what remains.
type Box struct {
	lease *Lease
	reap  func() error
}

// Open starts the process that removes what remains when the box is closed or
// this process ends, however it ends, and then gives the lease back.
func Open(lease *Lease, remains Remains) (*Box, error) {
	reap, err := startReaper(lease, remains)
	if err != nil {
		return nil, err
	}
	return &Box{lease: lease, reap: reap}, nil
}

// Close removes what remains and gives the lease back. What runs in the box must have ended.
func (b *Box) Close() error { return b.reap() }

// Child acts as one of this package's processes if the program was started as
// one, and tells so; main and TestMain call it first and exit with its code.
func Child() (code int, child bool) {
	switch os.Args[0] {
	case initName:
		return runInit(os.Args[1:]), true
	case reaperName:
		return runReaper(os.Args[1:]), true
	default:
		return 0, false
	}
}

// Run runs a command, the program's file and its arguments, and returns its exit
// code. It calls started with the process id, as the host sees it, of the first
// process inside. When ctx ends, the command gets SIGTERM and, 10 seconds later,
// SIGKILL.
func (b *Box) Run(ctx context.Context, command []string, started func(pid int) error) (int, error) {
	// The parent-death signal follows the thread, which therefore must not end before the process does.
	runtime.LockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", command...)
	cmd.Args[0] = initName
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make the lab's namespaces: %w", err)
	}
	if err := started(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("the lab's first process: %w", err)
	}
	return 0, nil
}

// runInit is the first process inside: it makes the mounts, runs the command,
// and reaps what becomes its child, as process 1 must.
func runInit(command []string) int {
	if err := prepareMounts(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	child, err := os.StartProcess(command[0], command, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "lab: wait for the lab's processes:", err)
			return 1
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == child.Pid:
			return status.ExitStatus()
		}
	}
}

// prepareMounts gives the containment a /proc and a /run of its own. Directories
// that Kubernetes' programs insist on writing to become overlays whose changes
// live in memory and end with the namespace.
func prepareMounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for i, dir := range []string{"/var/lib", "/var/log"} {
		upper, work := "/run/overlay/"+strconv.Itoa(i)+"/upper", "/run/overlay/"+strconv.Itoa(i)+"/work"
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		options := "lowerdir=" + dir + ",upperdir=" + upper + ",workdir=" + work
		if err := syscall.Mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount an overlay on %s: %w; the kernel needs overlayfs", dir, err)
		}
	}
	return nil
}
