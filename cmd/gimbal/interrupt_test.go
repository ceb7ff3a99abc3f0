package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const upstreamManifest = `apiVersion: gimbal.projectcontour.io/v1alpha1
kind: UpstreamCluster
metadata: {name: us-east}
spec: {kubernetes: {kubeconfigSecret: {name: us-east}}}
`

// TestCommandsEndAlthoughTheServerNeverAnswers runs commands against a server that
// accepts connections and says nothing.
func TestCommandsEndAlthoughTheServerNeverAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "us-east.yaml")
	if err := os.WriteFile(file, []byte(upstreamManifest), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args      []string
		interrupt bool
		want      string
	}{
		"status, interrupted":    {[]string{"status"}, true, "interrupted"},
		"plan, interrupted":      {[]string{"plan"}, true, "interrupted"},
		"plan -f, interrupted":   {[]string{"plan", "-f", file}, true, "interrupted"},
		"status after its limit": {[]string{"status", "--timeout", "100ms"}, false, "--timeout 100ms"},
		"plan after its limit":   {[]string{"plan", "--timeout", "100ms"}, false, "--timeout 100ms"},
		"one upstream's plan":    {[]string{"plan", "us-east", "--timeout", "100ms"}, false, "--timeout 100ms"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			kubeconfig, asked := silent(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			root := newRootCommand("gimbal")
			root.SetArgs(append(tt.args, "--kubeconfig", kubeconfig))
			root.SetOut(&bytes.Buffer{})
			root.SetErr(&bytes.Buffer{})
			done := make(chan error, 1)
			go func() { done <- root.ExecuteContext(ctx) }()
			if tt.interrupt {
				select {
				case <-asked:
				case <-time.After(time.Minute):
					t.Fatal("it asks nothing")
				}
				cancel()
			}
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("it ended with %v, want %q in it", err, tt.want)
				}
			case <-time.After(25 * time.Second): // without a bound it would be half a minute and more
				t.Fatal("it goes on")
			}
		})
	}
}

// TestInterruptsKillWhatDoesNotEnd runs the program where it waits for its input, which no context ends.
func TestInterruptsKillWhatDoesNotEnd(t *testing.T) {
	const arguments = "GIMBAL_TEST_ARGUMENTS"
	if a := os.Getenv(arguments); a != "" {
		os.Args = strings.Fields(a)
		main()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), arguments+"=gimbal plan -f -")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	// More than a pipe holds: when it is written, the program reads.
	if _, err := in.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	limit, again := time.After(10*time.Second), time.NewTicker(50*time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended just now
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "interrupt") {
				t.Errorf("it ended with %v", err)
			}
			return
		case <-limit:
			_ = cmd.Process.Kill()
			t.Fatal("it goes on")
		}
	}
}

// silent starts a server that never answers, and returns a kubeconfig for it and what is closed by the first connection.
func silent(t *testing.T) (kubeconfig string, asked <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	connected := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			if first {
				close(connected)
			}
		}
	}()
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}], " +
		"clusters: [{name: c, cluster: {server: 'http://" + l.Addr().String() + "'}}]}"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig, connected
}
