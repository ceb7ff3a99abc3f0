package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/lab/process"
)

// The network namespace is the bench's own, and so are its ports.
const (
	metricsAddress = "127.0.0.1:8080"
	probeAddress   = "127.0.0.1:8081"
	pprofAddress   = "127.0.0.1:8082"
)

// startGimbal runs gimbal discover as the manifests do, and returns when it is ready.
func (w *world) startGimbal(ctx context.Context) (ready time.Time, err error) {
	args := []string{
		"discover", "--kubeconfig", w.kubeconfig, "--namespace", system, "--identity", "bench",
		"--metrics-bind-address", metricsAddress, "--health-probe-bind-address", probeAddress,
	}
	if w.pprof != "" {
		args = append(args, "--pprof-bind-address", pprofAddress)
	}
	w.process, err = process.Start(process.Spec{
		Name: "gimbal", Path: filepath.Join(os.Getenv(containedEnv), "gimbal"), Args: args,
		// The limit of the manifests.
		Env: append(os.Environ(), "GOMEMLIMIT=512MiB"),
		Log: filepath.Join(w.dir, "gimbal.log"),
	})
	if err != nil {
		return ready, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for {
		response, err := client.Get("http://" + probeAddress + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return time.Now(), nil
			}
		}
		select {
		case <-ctx.Done():
			return ready, fmt.Errorf("gimbal isn't ready; its log ends with:\n%s", process.Tail(filepath.Join(w.dir, "gimbal.log"), 10))
		case <-w.process.Done():
			return ready, w.process.Failure()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// stopGimbal asks gimbal to end, as a rollout does.
func (w *world) stopGimbal() {
	w.process.Stop(20 * time.Second)
	w.process = nil
}

// addUpstream has Gimbal serve the upstream.
func (w *world) addUpstream(ctx context.Context) error {
	return w.admin.Create(ctx, w.upstreamCluster())
}

// removeUpstream has Gimbal remove all it made.
func (w *world) removeUpstream(ctx context.Context) error {
	if err := w.admin.Delete(ctx, w.upstreamCluster()); err != nil {
		return err
	}
	return w.seen.await(ctx, func() bool { return w.seen.count(team) == 0 })
}

func (w *world) upstreamCluster() *v1alpha1.UpstreamCluster {
	return &v1alpha1.UpstreamCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: backend},
		Spec: v1alpha1.UpstreamClusterSpec{Kubernetes: &v1alpha1.KubernetesUpstream{
			KubeconfigSecret: v1alpha1.SecretKey{Name: backend},
		}},
	}
}

// team tells the namespaces that Gimbal fills.
func team(namespace string) bool { return strings.HasPrefix(namespace, "team-") }

// centralWrites is how many writes of Services and EndpointSlices the central API server has answered.
func (w *world) centralWrites(ctx context.Context) (int, error) {
	config, err := restConfig(w.central.Kubeconfig())
	if err != nil {
		return 0, err
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	b, err := c.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !writes(line) {
			continue
		}
		n, err := strconv.ParseFloat(strings.Fields(line[strings.LastIndex(line, "}")+1:])[0], 64)
		if err != nil {
			return 0, fmt.Errorf("the API server's metrics: %w", err)
		}
		total += n
	}
	return int(total), nil
}

func writes(line string) bool {
	if !strings.Contains(line, `resource="services"`) && !strings.Contains(line, `resource="endpointslices"`) ||
		strings.Contains(line, `dry_run="All"`) { // which writes nothing
		return false
	}
	for _, verb := range []string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"} {
		if strings.Contains(line, `verb="`+verb+`"`) {
			return true
		}
	}
	return false
}

// rss returns gimbal's resident memory now and at its peak, in KiB.
func (w *world) rss() (now, peak int) {
	file := fmt.Sprintf("/proc/%d/status", w.process.PID())
	return procValue(file, "VmRSS:"), procValue(file, "VmHWM:")
}

// cpu returns the processor time that gimbal has used.
func (w *world) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.process.PID()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	kernel, _ := strconv.Atoi(f[12])
	return time.Duration(user+kernel) * (time.Second / 100) // USER_HZ
}

// profile saves a profile of gimbal where that was asked for.
func (w *world) profile(name, path string) {
	if w.pprof == "" {
		return
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + pprofAddress + "/debug/pprof/" + path)
	if err != nil {
		say("profile %s: %v", name, err)
		return
	}
	defer response.Body.Close()
	f, err := os.Create(filepath.Join(w.pprof, name+".pprof"))
	if err != nil {
		say("profile %s: %v", name, err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(f, response.Body); err != nil {
		say("profile %s: %v", name, err)
	}
}
