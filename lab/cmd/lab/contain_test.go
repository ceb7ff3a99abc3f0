package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/contain"
	"github.com/projectcontour/gimbal/lab/process"
	"github.com/projectcontour/gimbal/lab/state"
)

// TestContainment runs labs of two checkouts side by side, kills one as hard as
// can be and ends the other as a user does; nothing of either remains.
func TestContainment(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters, whose programs may have to be built first")
	}
	if os.Geteuid() != 0 {
		t.Skip("nodes need root")
	}
	binary := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	killed, ended := newLab(t, binary, "--openstack"), newLab(t, binary)
	killed.awaitReady(t)
	ended.awaitReady(t)

	a, b := killed.state(t), ended.state(t)
	if a.Plan.HostLink == b.Plan.HostLink || a.Dir == b.Dir || a.Cgroup == b.Cgroup {
		t.Errorf("two labs share something: %+v and %+v", a, b)
	}
	if n := len(processes(t, a.Init)); n < 8 {
		t.Fatalf("%d processes run inside, want a cluster's", n)
	}

	for _, args := range [][]string{
		{"member", "start", "10.251.0.13:8080", "m1"}, {"pause", "os-1", "octavia"}, {"stop", "os-1", "keystone"}, {"logs", "os-1", "mariadb"},
	} {
		if out, err := killed.run(args...); err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	if out, err := killed.run("status"); err != nil || !strings.Contains(string(out), "os-1 ") {
		t.Errorf("status: %v\n%s", err, out)
	}

	namespace := pidNamespace(t, a.Init)
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitNothing(t, a, namespace)
	if out, err := ended.run("status"); err != nil || !strings.Contains(string(out), "ready") {
		t.Errorf("the other lab suffered: %v\n%s", err, out)
	}

	namespace = pidNamespace(t, b.Init)
	if out, err := ended.run("exec", "one", "--", "sh", "-c", "kubectl get nodes; exit 7"); exitStatus(err) != 7 || !strings.Contains(string(out), "Ready") {
		t.Errorf("exec: %v\n%s", err, out)
	}
	if out, err := ended.run("down"); err != nil {
		t.Errorf("down: %v\n%s", err, out)
	}
	awaitNothing(t, b, namespace)
	<-ended.over
	if ended.err != nil {
		t.Errorf("a lab that was asked to end ends with %v", ended.err)
	}
}

// testLab is a lab of a checkout of its own.
type testLab struct {
	binary, root string
	cmd          *exec.Cmd
	log          string

	over chan struct{} // closed when it has ended
	err  error         // how
}

func newLab(t *testing.T, binary string, flags ...string) *testLab {
	t.Helper()
	real, err := checkout.Root()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(real, "lab"), filepath.Join(root, "lab")); err != nil {
		t.Fatal(err)
	}
	l := &testLab{binary: binary, root: root, log: filepath.Join(root, "log"), over: make(chan struct{})}
	log, err := os.Create(l.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.cmd = exec.Command(binary, append([]string{"up", "--bare", "--clusters", "one"}, flags...)...)
	l.cmd.Dir, l.cmd.Stdout, l.cmd.Stderr = root, log, log
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		l.err = l.cmd.Wait()
		close(l.over)
	}()
	t.Cleanup(func() {
		_ = l.cmd.Process.Signal(syscall.SIGTERM)
		<-l.over
	})
	return l
}

// run runs another command of the lab's checkout.
func (l *testLab) run(args ...string) ([]byte, error) {
	cmd := exec.Command(l.binary, args...)
	cmd.Dir = l.root
	return cmd.CombinedOutput()
}

func (l *testLab) awaitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	err := process.Await(ctx, nil, func(context.Context) error {
		select {
		case <-l.over:
			cancel()
		default:
		}
		out, err := l.run("status")
		if err == nil && !bytes.Contains(out, []byte(": ready")) {
			err = fmt.Errorf("status: %s", out)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, process.Tail(l.log, 40))
	}
}

func (l *testLab) state(t *testing.T) *state.State {
	t.Helper()
	s, err := state.Read(state.New(l.root).Dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pidNamespace(t *testing.T, pid int) string {
	t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// processes lists those in the pid namespace of the process with the given id.
func processes(t *testing.T, pid int) []string {
	t.Helper()
	return inNamespace(pidNamespace(t, pid))
}

func inNamespace(namespace string) []string {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var found []string
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil && name == namespace {
			found = append(found, link)
		}
	}
	return found
}

// awaitNothing waits until nothing of a lab is left on the machine.
func awaitNothing(t *testing.T, s *state.State, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := process.Await(ctx, nil, func(context.Context) error { return remains(s, namespace) })
	if err != nil {
		t.Errorf("of the lab of %s there remains: %v", s.Checkout, err)
	}
}

func remains(s *state.State, namespace string) error {
	var found []error
	if left := inNamespace(namespace); len(left) > 0 {
		found = append(found, fmt.Errorf("processes %q", left))
	}
	if _, err := net.InterfaceByName(s.Plan.HostLink); err == nil {
		found = append(found, fmt.Errorf("interface %s", s.Plan.HostLink))
	}
	for _, root := range contain.CgroupRoots() {
		if _, err := os.Stat(filepath.Join(root, s.Cgroup)); err == nil {
			found = append(found, fmt.Errorf("cgroup %s in %s", s.Cgroup, root))
		}
	}
	if _, err := os.Stat(s.Dir); err == nil {
		found = append(found, fmt.Errorf("directory %s", s.Dir))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(s.Dir)) {
		found = append(found, fmt.Errorf("mounts below %s (%w)", s.Dir, err))
	}
	running, err := contain.Running(checkout.ID(s.Checkout))
	if err != nil || running {
		found = append(found, fmt.Errorf("the lease (%w)", err))
	}
	return errors.Join(found...)
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"up": "up", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) is %s, want %s", in, got, want)
		}
	}
}

func TestCheckClusters(t *testing.T) {
	for _, bad := range [][]string{nil, {"Central"}, {"a", "a"}, {"images"}, {"1st"}, {""}} {
		if err := checkClusters(bad); err == nil {
			t.Errorf("names %q are accepted", bad)
		}
	}
	if err := checkClusters([]string{"central", "us-east"}); err != nil {
		t.Error(err)
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs([]string{"--help"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up", "down", "status", "kubeconfig", "exec", "logs", "components", "member", "stop", "start"} {
		if !strings.Contains(out.String(), "\n  "+name+" ") {
			t.Errorf("help doesn't name %s:\n%s", name, out.String())
		}
	}
}
