package controlplane_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/projectcontour/gimbal/lab/controlplane"
)

// TestControlPlane walks one control plane through its life. A cold component
// cache is filled first, which the test's own limit doesn't cover.
func TestControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane, whose programs may have to be built first")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	dir := t.TempDir()
	c, err := controlplane.Start(ctx, controlplane.Options{Name: "test", Dir: dir, AuditLog: filepath.Join(dir, "audit.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})

	if got := status(t, c, "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz answers %d, want 200", got)
	}
	k, err := c.ServiceAccountKubeconfig(ctx, "default", "default", 0)
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); {
		k, err = c.ServiceAccountKubeconfig(ctx, "default", "default", 0)
	}
	if err != nil {
		t.Fatalf("the controllers made no default ServiceAccount: %v", err)
	}
	if config, err := clientcmd.RESTConfigFromKubeConfig(k); err != nil || config.Host != c.URL() || config.BearerToken == "" || strings.Contains(string(k), dir) {
		t.Errorf("kubeconfig lacks the server or the token, or names a file: %v", err)
	}
	if info, err := os.Stat(c.AuditLog()); err != nil || info.Size() == 0 {
		t.Errorf("audit log: %v, %v", info, err)
	}

	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c, "/readyz"); got != 0 {
		t.Errorf("a stopped API server answers %d", got)
	}
	if err := c.PauseAPIServer(); err == nil {
		t.Error("pausing a stopped API server worked")
	}
	url := c.URL()
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if c.URL() != url || status(t, c, "/readyz") != http.StatusOK {
		t.Errorf("the API server isn't back at %s (now %s)", url, c.URL())
	}

	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c, "/readyz"); got != 0 {
		t.Errorf("a paused API server answers %d", got)
	}
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c, "/readyz"); got != http.StatusOK {
		t.Errorf("a resumed API server answers %d", got)
	}

	pids := c.PIDs()
	if len(pids) != 3 {
		t.Errorf("programs that run: %v, want 3", pids)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s (process %d) outlives Stop: %v", name, pid, err)
		}
	}
}

// status is the HTTP status of a request as administrator, 0 for no answer within a second.
func status(t *testing.T, c *controlplane.ControlPlane, path string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	code, err := c.Status(ctx, path)
	if err != nil {
		return 0
	}
	return code
}
