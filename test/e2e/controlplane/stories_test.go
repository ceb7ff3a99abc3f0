// Package controlplane_test runs the stories that need no nodes: on real control
// planes as plain processes on the loopback interface.
package controlplane_test

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/controlplane"
	"github.com/projectcontour/gimbal/lab/image"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/test/e2e/script"
)

// together is how many stories run at a time: most of them wait most of the time.
const together = 6

var world = &script.World{}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		log.Println("the stories can't run:", err)
		code = 1
	}
	os.Exit(code)
}

func TestStories(t *testing.T) {
	script.Run(t, world, "testdata")
}

func run(m *testing.M) (int, error) {
	if err := flag.Set("test.parallel", fmt.Sprint(together)); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "gimbal-stories-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	stop, err := setUp(dir)
	defer stop()
	if err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// setUp builds gimbal and starts the clusters that the stories share.
func setUp(dir string) (stop func(), err error) {
	world.StartUpstream, world.StartCloud = startUpstream, startCloud
	planes := make([]*controlplane.ControlPlane, 3)
	var cloud *openstack.OpenStack
	stop = func() {
		if cloud != nil {
			_ = cloud.Stop()
		}
		for _, p := range planes {
			if p != nil {
				_ = p.Stop()
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	if world.Root, err = checkout.Root(); err != nil {
		return stop, err
	}
	components, err := component.Open(os.Stderr)
	if err != nil {
		return stop, err
	}
	if world.Kubectl, err = components.Path(ctx, component.Kubectl); err != nil {
		return stop, err
	}
	if world.Contour, err = components.Path(ctx, component.Contour); err != nil {
		return stop, err
	}
	if world.ContourRelease, err = image.Contour(ctx, components); err != nil {
		return stop, err
	}
	var group errgroup.Group
	group.Go(func() error { return buildGimbal(ctx, dir) })
	for i, name := range []string{"central", "one", "two"} {
		group.Go(func() (err error) {
			options := controlplane.Options{Name: name, Dir: filepath.Join(dir, name), Components: components}
			if name == "central" {
				options.AuditLog = filepath.Join(dir, "audit.log")
				options.AuditPolicy = filepath.Join(world.Root, "test", "e2e", "controlplane", "audit-policy.yaml")
			}
			planes[i], err = controlplane.Start(ctx, options)
			return err
		})
	}
	group.Go(func() (err error) {
		cloud, err = openstack.Start(ctx, openstack.Options{Name: "cloud", Dir: filepath.Join(dir, "cloud"), Components: components})
		return err
	})
	if err := group.Wait(); err != nil {
		return stop, err
	}
	world.Cloud = &script.Cloud{Name: "cloud", Client: cloud.Client}
	if world.Central, err = open(planes[0]); err != nil {
		return stop, err
	}
	world.Central.Audit = planes[0].AuditLog()
	if err := kubectlApply(planes[0], "deploy/crds"); err != nil {
		return stop, err
	}
	for _, p := range planes[1:] {
		u, err := openUpstream(p)
		if err != nil {
			return stop, err
		}
		u.API = nil
		world.Upstreams = append(world.Upstreams, u)
	}
	return stop, nil
}

func buildGimbal(ctx context.Context, dir string) error {
	world.Gimbal = filepath.Join(dir, "bin", "gimbal")
	build := exec.CommandContext(ctx, "go", "build", "-race", "-o", world.Gimbal, "./cmd/gimbal")
	build.Dir = world.Root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	return nil
}

// startUpstream starts an upstream cluster for one story.
func startUpstream(name, dir string) (*script.Cluster, func() error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// Services are single-stack IPv4 unless they ask for more.
	dualStack := []string{"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"}
	p, err := controlplane.Start(ctx, controlplane.Options{
		Name: name, Dir: dir, APIServerFlags: dualStack, ControllerManagerFlags: dualStack,
	})
	if err != nil {
		return nil, nil, err
	}
	c, err := openUpstream(p)
	if err != nil {
		_ = p.Stop()
		return nil, nil, err
	}
	return c, p.Stop, nil
}

// startCloud starts an OpenStack for one story.
func startCloud(name, dir string, settings openstack.Settings) (*script.Cloud, func() error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	o, err := openstack.Start(ctx, openstack.Options{Name: name, Dir: dir, Settings: settings})
	if err != nil {
		return nil, nil, err
	}
	return &script.Cloud{Name: name, Client: o.Client, Services: o}, o.Stop, nil
}

func open(p *controlplane.ControlPlane) (*script.Cluster, error) {
	c, err := script.OpenCluster(p.Name(), p.Kubeconfig(), "")
	if err != nil {
		return nil, err
	}
	c.API = p
	return c, nil
}

// openUpstream gives Gimbal on an upstream what an operator would.
func openUpstream(p *controlplane.ControlPlane) (*script.Cluster, error) {
	for _, rights := range []string{"deploy/upstream", "deploy/upstream/nodeport"} {
		if err := kubectlApply(p, rights); err != nil {
			return nil, err
		}
	}
	return open(p)
}

func kubectlApply(p *controlplane.ControlPlane, dir string) error {
	apply := exec.Command(world.Kubectl, "--kubeconfig", p.Kubeconfig(), "apply", "-k", filepath.Join(world.Root, dir))
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", apply, err, out)
	}
	return nil
}
