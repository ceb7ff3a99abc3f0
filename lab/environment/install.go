package environment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/lab/cluster"
	"github.com/projectcontour/gimbal/lab/image"
	"github.com/projectcontour/gimbal/lab/manifests"
	"github.com/projectcontour/gimbal/lab/process"
	"github.com/projectcontour/gimbal/lab/samples"
)

// furnish installs what the clusters are to run and waits until it does.
func (in *inside) furnish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if !in.state.Bare {
		if err := in.install(ctx); err != nil {
			return err
		}
	}
	return in.awaitRollouts(ctx)
}

// install installs Gimbal centrally, adds the upstreams, and deploys the samples.
func (in *inside) install(ctx context.Context) error {
	deploy, err := in.copyDeploy()
	if err != nil {
		return err
	}
	in.say("Installing Gimbal, Contour and Envoy from deploy/ in %s.", in.central().Name())
	if _, err := in.central().Kubectl(ctx, nil, "apply", "--server-side", "-k", filepath.Join(deploy, "contour-crds")); err != nil {
		return err
	}
	if _, err := in.central().Kubectl(ctx, nil, "apply", "-k", deploy); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, c := range in.upstreams() {
		group.Go(func() error { return in.addUpstream(groupCtx, c, deploy) })
	}
	var routes []byte
	if in.cloud != nil {
		group.Go(func() (err error) {
			routes, err = in.addOpenStack(groupCtx, deploy)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(in.upstreams()) == 0 && in.cloud == nil {
		return nil
	}
	manifests, err := samples.Central(in.upstreamNames())
	if err != nil {
		return err
	}
	return in.central().Apply(ctx, append(manifests, routes...))
}

func (in *inside) central() *cluster.Cluster { return in.clusters[in.state.Plan.Clusters[0].Name] }

func (in *inside) upstreams() []*cluster.Cluster {
	var all []*cluster.Cluster
	for _, plan := range in.state.Plan.Clusters[1:] {
		all = append(all, in.clusters[plan.Name])
	}
	return all
}

func (in *inside) upstreamNames() []string {
	var names []string
	for _, c := range in.upstreams() {
		names = append(names, c.Name())
	}
	return names
}

// copyDeploy copies deploy/ so that it needs no network.
func (in *inside) copyDeploy() (string, error) {
	dir := filepath.Join(in.state.Dir, "deploy")
	return dir, manifests.Copy(in.state.Checkout, dir, in.state.Contour)
}

// addUpstream does what deploy/samples/upstreamcluster.yaml tells an operator to
// do, and deploys the sample applications there.
func (in *inside) addUpstream(ctx context.Context, c *cluster.Cluster, deploy string) error {
	if _, err := c.Kubectl(ctx, nil, "apply", "-k", filepath.Join(deploy, "upstream")); err != nil {
		return err
	}
	apps, err := samples.Upstream(image.Echo)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, apps); err != nil {
		return err
	}
	var kubeconfig []byte
	err = process.Await(ctx, nil, func(ctx context.Context) error {
		var err error
		kubeconfig, err = c.Kubectl(ctx, nil, "-n", "gimbal-upstream", "get", "secret", "gimbal-discovery-token",
			"-o", "go-template-file="+filepath.Join(deploy, "samples", "kubeconfig.tmpl"))
		return err
	})
	if err != nil {
		return fmt.Errorf("token of the upstream %s: %w", c.Name(), err)
	}
	kubeconfig = bytes.ReplaceAll(kubeconfig, []byte("SERVER"), []byte(c.URL()))
	central := in.central()
	if _, err := central.Kubectl(ctx, kubeconfig, "-n", "gimbal-discovery", "create", "secret", "generic", c.Name(),
		"--from-file=kubeconfig=/dev/stdin"); err != nil {
		return err
	}
	sample, err := os.ReadFile(filepath.Join(deploy, "samples", "upstreamcluster.yaml"))
	if err != nil {
		return fmt.Errorf("add upstream %s: %w", c.Name(), err)
	}
	return central.Apply(ctx, bytes.ReplaceAll(sample, []byte("name: us-east"), []byte("name: "+c.Name())))
}

// awaitRollouts waits until every workload of every cluster is rolled out.
func (in *inside) awaitRollouts(ctx context.Context) error {
	for _, plan := range in.state.Plan.Clusters {
		c := in.clusters[plan.Name]
		out, err := c.Kubectl(ctx, nil, "get", "deployments,daemonsets", "-A",
			"-o", `jsonpath={range .items[*]}{.metadata.namespace} {.kind}/{.metadata.name}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(out)) {
			namespace, object, _ := strings.Cut(strings.TrimSpace(line), " ")
			start := time.Now()
			_, err := c.Kubectl(ctx, nil, "-n", namespace, "rollout", "status", object)
			if err != nil {
				return fmt.Errorf("%s in namespace %s of %s isn't rolled out: %w\n%s", object, namespace, c.Name(), err, explain(c, namespace))
			}
			if waited := time.Since(start); waited > 2*time.Second {
				in.say("%s in namespace %s of %s is rolled out, after %s more.", object, namespace, c.Name(), waited.Round(time.Second))
			}
		}
	}
	return nil
}

// explain gathers what tells why a namespace's pods don't come up.
func explain(c *cluster.Cluster, namespace string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	pods, err := c.Kubectl(ctx, nil, "-n", namespace, "get", "pods", "-o", "wide")
	events, err2 := c.Kubectl(ctx, nil, "-n", namespace, "events", "--types=Warning")
	logs, err3 := c.Kubectl(ctx, nil, "-n", namespace, "logs", "--tail=10", "--prefix", "--all-containers", "-l", "app.kubernetes.io/part-of=gimbal")
	text := fmt.Sprintf("%s\n%s\n%s", pods, events, logs)
	if err := errors.Join(err, err2, err3); err != nil {
		text += "\n" + err.Error()
	}
	return text
}
