// Package tier_test runs the stories of what Envoy serves: requests through Contour and
// Envoy, as they are released, to what Gimbal mirrored of each shape of Service.
package tier_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/controlplane"
	"github.com/projectcontour/gimbal/lab/process"
	"github.com/projectcontour/gimbal/test/e2e/script"
)

// together is how many stories run at a time: most of them wait most of the time.
const together = 4

// entrance is Envoy's address.
const entrance = "127.0.0.1:8888"

var world = &script.World{Tier: entrance}

func TestMain(m *testing.M) {
	flag.Parse()
	run := outside
	if os.Getenv(containedEnv) != "" {
		run = func() (int, error) { return inside(m) }
	}
	code, err := run()
	if err != nil {
		log.Println("the stories can't run:", err)
		code = 1
	}
	os.Exit(code)
}

func TestStories(t *testing.T) {
	script.Run(t, world, "testdata")
}

// tier is what the stories share.
type tier struct {
	dir       string
	cache     *component.Cache
	planes    []*controlplane.ControlPlane
	processes []*process.Process
}

func inside(m *testing.M) (int, error) {
	if err := flag.Set("test.parallel", fmt.Sprint(together)); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	t := &tier{dir: os.Getenv(containedEnv)}
	defer t.stop()
	if err := t.start(ctx); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func (t *tier) stop() {
	for _, p := range t.processes {
		p.Kill()
	}
	for _, p := range t.planes {
		_ = p.Stop()
	}
}

func (t *tier) start(ctx context.Context) (err error) {
	if err := addresses(); err != nil {
		return err
	}
	if t.cache, err = component.Open(os.Stderr); err != nil {
		return err
	}
	if world.Root, err = checkout.Root(); err != nil {
		return err
	}
	world.Gimbal = filepath.Join(t.dir, "gimbal")
	if world.Kubectl, err = t.cache.Path(ctx, component.Kubectl); err != nil {
		return err
	}
	if world.Central, err = t.cluster(ctx, "central", "deploy/crds"); err != nil {
		return err
	}
	us, err := t.cluster(ctx, "us", "deploy/upstream", "deploy/upstream/nodeport")
	if err != nil {
		return err
	}
	world.Upstreams = []*script.Cluster{us}
	return errors.Join(t.startNode(ctx, us), t.startEnvoy(ctx))
}

// cluster starts a dual-stack control plane and applies manifests of the checkout to it.
func (t *tier) cluster(ctx context.Context, name string, manifests ...string) (*script.Cluster, error) {
	// Services are single-stack IPv4 unless they ask for more.
	dualStack := []string{"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"}
	p, err := controlplane.Start(ctx, controlplane.Options{
		Name: name, Dir: filepath.Join(t.dir, name), Components: t.cache, APIServerFlags: dualStack, ControllerManagerFlags: dualStack,
	})
	if err != nil {
		return nil, err
	}
	t.planes = append(t.planes, p)
	for _, dir := range manifests {
		if err := t.kubectl(ctx, p, "apply", "-k", filepath.Join(world.Root, dir)); err != nil {
			return nil, err
		}
	}
	return script.OpenCluster(name, p.Kubeconfig(), "")
}

func (t *tier) kubectl(ctx context.Context, p *controlplane.ControlPlane, args ...string) error {
	cmd := exec.CommandContext(ctx, world.Kubectl, append([]string{"--kubeconfig", p.Kubeconfig()}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}

// startNode makes this network namespace a node of a cluster, with a kube-proxy.
func (t *tier) startNode(ctx context.Context, of *script.Cluster) error {
	n := corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: node},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeIPv4}, {Type: corev1.NodeInternalIP, Address: nodeIPv6},
		}},
	}
	if err := of.Do(ctx, http.MethodPost, "/api/v1/nodes", n, nil); err != nil {
		return err
	}
	kubeconfig, err := t.planes[1].UserKubeconfig("system:kube-proxy")
	if err != nil {
		return err
	}
	file := filepath.Join(t.dir, "kube-proxy.kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return err
	}
	nft, err := t.cache.Path(ctx, component.Nft)
	if err != nil {
		return err
	}
	return t.run(ctx, component.Proxy, []string{"PATH=" + filepath.Dir(nft) + string(os.PathListSeparator) + os.Getenv("PATH")},
		"--kubeconfig", file, "--proxy-mode", "nftables", "--hostname-override", node, "--nodeport-addresses", "primary",
		"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0")
}

// startEnvoy starts Contour and Envoy as their manifests do.
func (t *tier) startEnvoy(ctx context.Context) error {
	source, err := t.cache.Source(ctx, component.Contour)
	if err != nil {
		return err
	}
	central := t.planes[0]
	if err := t.kubectl(ctx, central, "create", "-f", filepath.Join(source, "examples/contour/01-crds.yaml")); err != nil {
		return err
	}
	if err := t.kubectl(ctx, central, "wait", "--for=condition=Established", "crd", "--all"); err != nil {
		return err
	}
	contour, err := t.cache.Path(ctx, component.Contour)
	if err != nil {
		return err
	}
	bootstrap := filepath.Join(t.dir, "envoy.json")
	cmd := exec.CommandContext(ctx, contour, "bootstrap", bootstrap, "--xds-address", "127.0.0.1", "--xds-port", "8001",
		"--admin-address", filepath.Join(t.dir, "envoy-admin.sock"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("contour bootstrap: %w: %s", err, out)
	}
	return errors.Join(
		t.run(ctx, component.Contour, nil, "serve", "--kubeconfig", central.Kubeconfig(), "--insecure", "--disable-leader-election",
			"--xds-address", "127.0.0.1", "--xds-port", "8001", "--http-address", "127.0.0.1", "--http-port", "8000",
			"--health-address", "127.0.0.1", "--health-port", "8000", "--stats-address", "127.0.0.1", "--stats-port", "8002",
			"--envoy-service-http-address", "127.0.0.1", "--envoy-service-http-port", "8888",
			"--envoy-service-https-address", "127.0.0.1", "--envoy-service-https-port", "8443"),
		t.run(ctx, component.Envoy, nil, "--config-path", bootstrap, "--service-cluster", "tier", "--service-node", "tier", "--concurrency", "1",
			"--base-id-path", filepath.Join(t.dir, "envoy-base-id"), "--use-dynamic-base-id", "--log-level", "warn"),
	)
}

// run starts a component, with more of an environment.
func (t *tier) run(ctx context.Context, name string, env []string, args ...string) error {
	path, err := t.cache.Path(ctx, name)
	if err != nil {
		return err
	}
	p, err := process.Start(process.Spec{Name: name, Path: path, Args: args, Env: append(os.Environ(), env...), Log: filepath.Join(t.dir, name+".log")})
	if err != nil {
		return err
	}
	t.processes = append(t.processes, p)
	return nil
}
