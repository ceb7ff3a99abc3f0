package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
)

// containedEnv names the directory of the programs to measure, in the process that measures.
const containedEnv = "GIMBAL_BENCH_DIR"

func contained() bool { return os.Getenv(containedEnv) != "" }

// programs are what is measured and what it runs on.
type programs struct{ dir string }

func (p programs) remove() { os.RemoveAll(p.dir) }

// prepare builds what the measuring process, which has no network, must find.
func prepare(ctx context.Context, o options) (programs, error) {
	dir, err := os.MkdirTemp("", "gimbal-bench-")
	if err != nil {
		return programs{}, err
	}
	p := programs{dir}
	cache, err := component.Open(os.Stderr)
	if err != nil {
		return p, errors.Join(err, os.RemoveAll(dir))
	}
	for _, name := range []string{component.Etcd, component.APIServer, component.ControllerManager, component.Kubectl, component.Contour, component.Envoy, component.OpenStack, component.OpenStackData, component.MariaDB} {
		if _, err := cache.Path(ctx, name); err != nil {
			return p, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if _, err := cache.Source(ctx, component.Contour); err != nil {
		return p, errors.Join(err, os.RemoveAll(dir))
	}
	if o.gimbal != "" {
		file, err := filepath.Abs(o.gimbal)
		return p, errors.Join(err, os.Symlink(file, filepath.Join(dir, "gimbal")))
	}
	return p, build(ctx, filepath.Join(dir, "gimbal"))
}

// build builds gimbal as the Makefile does.
func build(ctx context.Context, file string) error {
	root, err := checkout.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./cmd/gimbal")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build gimbal: %w", err)
	}
	return nil
}

// contain runs this program again in a network namespace of its own: endpoints get
// addresses there that the API server accepts and that lead nowhere else.
func contain(ctx context.Context, p programs) error {
	// The parent-death signal follows the thread, which must not end before the process does.
	runtime.LockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), containedEnv+"="+p.dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setpgid: true,
	}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make a network namespace: %w; run the bench as root", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the process that measures: %w", err)
	}
	return nil
}

// backends are the addresses that Envoy's endpoints have.
var backends = []string{"10.99.0.1", "10.99.0.2"}

// addresses gives the namespace its addresses.
func addresses() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	for _, b := range backends {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(b), Mask: net.CIDRMask(32, 32)}}
		if err := netlink.AddrAdd(lo, address); err != nil {
			return fmt.Errorf("address %s: %w", b, err)
		}
	}
	return nil
}
