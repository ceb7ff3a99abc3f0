package contain

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Enter starts cmd inside the containment whose first process has the given id,
// in the network namespace at netNS (a path inside), or in the containment's own
// where that is empty. The caller waits for cmd, from the same goroutine, and
// then ends: its thread stays in the containment. A cmd with a parent-death
// signal can't be entered, since its parent isn't in its pid namespace.
func Enter(pid int, netNS string, cmd *exec.Cmd) error {
	// Namespaces are a thread's, and this one isn't to be anybody else's afterwards.
	runtime.LockOSThread()
	proc := "/proc/" + strconv.Itoa(pid) + "/ns/"
	files := map[int]*os.File{}
	for kind, name := range map[int]string{unix.CLONE_NEWPID: "pid", unix.CLONE_NEWNET: "net", unix.CLONE_NEWIPC: "ipc", unix.CLONE_NEWNS: "mnt"} {
		f, err := os.Open(proc + name)
		if err != nil {
			return fmt.Errorf("enter the lab: %w", err)
		}
		defer f.Close()
		files[kind] = f
	}
	// The kernel refuses a mount namespace to threads that share a working directory.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter the lab: %w", err)
	}
	wd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("enter the lab: %w", err)
	}
	for _, kind := range []int{unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWNS} {
		if err := unix.Setns(int(files[kind].Fd()), kind); err != nil {
			return fmt.Errorf("enter the lab: %w", err)
		}
	}
	if netNS != "" {
		f, err := os.Open(netNS)
		if err != nil {
			return fmt.Errorf("enter the lab: %w", err)
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", netNS, err)
		}
	}
	if cmd.Dir == "" {
		cmd.Dir = wd
	}
	return cmd.Start()
}
