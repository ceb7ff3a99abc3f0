package contain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// errand is what the reaper is told to do.
type errand struct {
	Remains

	Leases []string
}

// startReaper starts the process that outlives the lab's. It holds the lease and
// the reading end of a pipe whose writing end only this process has: the pipe's
// end tells it that this process has ended. The function returned lets it go to
// work and waits for it.
func startReaper(lease *Lease, remains Remains) (reap func() error, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	defer r.Close()
	todo := errand{Remains: remains}
	for _, f := range lease.files {
		todo.Leases = append(todo.Leases, f.Name())
	}
	arg, err := json.Marshal(todo)
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", string(arg))
	cmd.Args[0] = reaperName
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{r}, lease.files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return func() error {
		for _, f := range lease.files {
			f.Close()
		}
		w.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("remove what the lab left: %w", err)
		}
		return nil
	}, nil
}

func runReaper(args []string) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	var todo errand
	if err := json.Unmarshal([]byte(args[0]), &todo); err != nil {
		fmt.Fprintln(os.Stderr, "lab: reaper:", err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.NewFile(3, "pipe"))
	if err := todo.do(); err != nil {
		fmt.Fprintln(os.Stderr, "lab: reaper:", err)
		return 1
	}
	return 0
}

// do removes what is left. Processes that die with the namespaces may still
// be at it, so what is busy is tried again for a while.
func (e errand) do() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := errors.Join(removeCgroups(e.Cgroup), removeLink(e.Link), os.RemoveAll(e.Dir))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("these remain, remove them by hand: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, path := range e.Leases {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return netlink.LinkDel(link)
}

// removeCgroups removes the cgroup called name, and those below it, from the
// unified hierarchy (version 2) or from each controller's (version 1).
func removeCgroups(name string) error {
	var found []error
	for _, top := range CgroupRoots() {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(top, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			found = append(found, err)
		}
		slices.Reverse(dirs)
		for _, dir := range dirs {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
				found = append(found, fmt.Errorf("cgroup %s: %w", dir, err))
			}
		}
	}
	return errors.Join(found...)
}

// CgroupRoots lists the mounted cgroup hierarchies: one of version 2, or one for
// each controller of version 1.
func CgroupRoots() []string {
	const mount = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		return []string{mount}
	}
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var roots []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[2], "cgroup") && strings.HasPrefix(f[1], mount+"/") {
			roots = append(roots, f[1])
		}
	}
	return roots
}
