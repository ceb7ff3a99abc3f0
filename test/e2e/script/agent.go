package script

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// agent is a gimbal discover that runs.
type agent struct {
	name, log     string
	metrics, live string
	cmd           *exec.Cmd
	excused       int // errors in the log that a story asked for
	done          chan struct{}
	err           error
}

// runGimbal runs gimbal to its end.
func runGimbal(s *story, args []string) (string, error) {
	return s.runProgram("", s.Gimbal, args...)
}

// discover starts gimbal discover in the background, with the rights that deploy/ gives it.
func discover(s *story, args []string) (string, error) {
	if len(args) == 0 {
		return "", usage("discover NAME [FLAG…]")
	}
	a := &agent{name: args[0], log: s.path(args[0] + ".log"), metrics: s.address(), live: s.address(), done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.agents[a.name]; old != nil && old.alive() {
		return "", fmt.Errorf("%s runs already", a.name)
	}
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer log.Close()
	a.cmd = exec.Command(s.Gimbal, append([]string{"discover",
		"--kubeconfig", s.file("agent-kubeconfig"), "--namespace", s.namespace, "--identity", a.name,
		"--metrics-bind-address", a.metrics, "--health-probe-bind-address", a.live, "--log-format", "text",
	}, args[1:]...)...)
	a.cmd.Dir, a.cmd.Stdout, a.cmd.Stderr = s.dir, log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return "", err
	}
	go func() {
		a.err = a.cmd.Wait()
		close(a.done)
	}()
	s.agents[a.name] = a
	return "", nil
}

// address returns a loopback address that nobody listens on and that no agent of this
// process was given, outside the range that the kernel takes ports of outgoing connections from.
func (w *World) address() string {
	const first, count = 15000, 5000
	for {
		a := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+(os.Getpid()*97+int(w.ports.Add(1)))%count))
		if l, err := net.Listen("tcp", a); err == nil {
			l.Close()
			return a
		}
	}
}

func (a *agent) alive() bool {
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

func (s *story) agent(name string) (*agent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.agents[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("no gimbal discover is called %s", name)
}

// waitReady waits until /readyz says so.
func waitReady(s *story, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage("wait-ready NAME")
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := s.get("http://" + a.live + "/readyz")
		switch {
		case err == nil:
			return "", nil
		case !a.alive():
			return "", fmt.Errorf("%s has ended: %w", a.name, a.err)
		case time.Now().After(deadline):
			return "", err
		}
		if err := s.pause(50 * time.Millisecond); err != nil {
			return "", err
		}
	}
}

func (s *story) get(url string) (string, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, b)
	}
	return string(b), err
}

// metric prints the series that begin with a text, one "name value" a line.
func metric(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("metric NAME SERIES")
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	all, err := s.get("http://" + a.metrics + "/metrics")
	if err != nil {
		return "", err
	}
	var found strings.Builder
	for line := range strings.Lines(all) {
		if strings.HasPrefix(line, args[1]) {
			found.WriteString(line)
		}
	}
	return found.String(), nil
}

// readLog prints what a gimbal discover has logged.
func readLog(s *story, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage("log NAME")
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(a.log)
	return string(b), err
}

// errorLines prints the errors that a gimbal discover has logged, which otherwise fail the story.
func errorLines(s *story, args []string) (string, error) {
	out, err := readLog(s, args)
	if err != nil {
		return "", err
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	var found []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "level=ERROR") {
			found = append(found, line)
		}
	}
	a.excused = len(found)
	return strings.Join(found, ""), nil
}

// end ends a gimbal discover, gracefully unless -9 is given, and waits until it has ended.
func end(s *story, args []string) (string, error) {
	if len(args) == 0 || len(args) > 2 {
		return "", usage("end NAME [-9]")
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	if len(args) == 2 {
		return "", a.kill()
	}
	return "", a.stop()
}

// freeze stops a gimbal discover in its tracks: it keeps its connections and does nothing.
func freeze(s *story, args []string) (string, error) {
	return s.signal("freeze", syscall.SIGSTOP, args)
}

// thaw lets one go on.
func thaw(s *story, args []string) (string, error) { return s.signal("thaw", syscall.SIGCONT, args) }

func (s *story) signal(command string, sig syscall.Signal, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage(command + " NAME")
	}
	a, err := s.agent(args[0])
	if err != nil {
		return "", err
	}
	return "", a.cmd.Process.Signal(sig)
}

func (a *agent) kill() error {
	err := a.cmd.Process.Kill()
	<-a.done
	return err
}

// stop asks the agent to end, which it has to do soon and without an error.
func (a *agent) stop() error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-a.done:
		if a.err != nil {
			return fmt.Errorf("%s ended with %w", a.name, a.err)
		}
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(fmt.Errorf("%s doesn't end", a.name), a.kill())
	}
}

// endAgents ends what still runs, and fails the story for a race or a panic.
func (s *story) endAgents(t testscript.T) {
	s.mu.Lock()
	agents := s.agents
	s.mu.Unlock()
	var errs []error
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, a := range agents {
		wg.Go(func() {
			var err error
			if a.alive() {
				err = a.stop()
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err, a.flaws())
		})
	}
	wg.Wait()
	failed, ok := t.(interface{ Failed() bool })
	err := errors.Join(errs...)
	if err != nil || ok && failed.Failed() {
		for _, a := range agents {
			t.Log(a.name + " logged last:\n" + tail(a.log, 25))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flaw is what a program never writes unless it is wrong.
var flaw = regexp.MustCompile(`WARNING: DATA RACE|^panic: |fatal error: |Observed a panic`)

// ending is the first that an agent logs when it is asked to end; lost is what client-go logs
// of an event that was being written then. Events are a best effort.
const ending = "Stopping and waiting for"

var lost = regexp.MustCompile(`logger=events err=".*context canceled"`)

func (a *agent) flaws() error {
	f, err := os.Open(a.log)
	if err != nil {
		return err
	}
	defer f.Close()
	failed, ends := 0, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		ends = ends || strings.Contains(lines.Text(), ending)
		if strings.Contains(lines.Text(), "level=ERROR") && (!ends || !lost.MatchString(lines.Text())) {
			failed++
		}
		if failed > a.excused || flaw.MatchString(lines.Text()) {
			return fmt.Errorf("%s has a flaw:\n%s", a.name, tail(a.log, 100))
		}
	}
	return nil
}

// tail returns the last n lines of a file.
func tail(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
