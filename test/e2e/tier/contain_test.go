package tier_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
)

// containedEnv names the directory of the built programs, in the process that runs the stories.
const containedEnv = "GIMBAL_TIER_DIR"

// needed are the components that the stories run on.
func needed() []string {
	return []string{
		component.Etcd, component.APIServer, component.ControllerManager, component.Kubectl,
		component.Proxy, component.Nft, component.Contour, component.Envoy,
	}
}

// outside builds what the stories need, which have no network, and runs this program again in
// a network namespace of its own. Pods, nodes and load balancers have addresses there that
// the API server accepts and that lead nowhere else.
func outside() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "gimbal-tier-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := prepare(ctx, dir); err != nil {
		return 0, err
	}
	// The parent-death signal follows the thread, which must not end before the process does.
	runtime.LockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), containedEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make a network namespace: %w; run the stories as root", err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
}

func prepare(ctx context.Context, dir string) error {
	cache, err := component.Open(os.Stderr)
	if err != nil {
		return err
	}
	for _, name := range needed() {
		if _, err := cache.Path(ctx, name); err != nil {
			return err
		}
	}
	if _, err := cache.Source(ctx, component.Contour); err != nil {
		return err
	}
	root, err := checkout.Root()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-race", "-o", filepath.Join(dir, "gimbal"), "./cmd/gimbal")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	return nil
}

// The addresses of the one node that has a kube-proxy.
const (
	node     = "node-1"
	nodeIPv4 = "10.99.1.1"
	nodeIPv6 = "fd99:1::1"
)

// addresses gives the namespace its addresses: the node's, and those of pods and load balancers.
func addresses() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	all := []string{nodeIPv4, nodeIPv6}
	for i := range 9 {
		all = append(all, fmt.Sprintf("10.99.0.%d", i+1), fmt.Sprintf("fd99::%d", i+1))
	}
	for _, a := range all {
		ip, bits := net.ParseIP(a), 128
		if v4 := ip.To4(); v4 != nil {
			ip, bits = v4, 32
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(lo, address); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}
