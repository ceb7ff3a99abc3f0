package environment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/lab/cluster"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/member"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/lab/samples"
	"github.com/projectcontour/gimbal/lab/state"
)

// OpenStack is the name of a lab's OpenStack, as deploy/samples has it.
const OpenStack = "os-1"

// services is an OpenStack whose services are stopped and started as a cluster's components are.
type services struct{ *openstack.OpenStack }

func (s services) StartComponent(ctx context.Context, name string) error {
	return s.StartService(ctx, name)
}
func (s services) StopComponent(name string) error   { return s.StopService(name) }
func (s services) PauseComponent(name string) error  { return s.PauseService(name) }
func (s services) ResumeComponent(name string) error { return s.ResumeService(name) }

// FindComponent returns the full name of a component of a lab's cluster, or of its OpenStack.
func FindComponent(s *state.State, name, component string) (string, error) {
	if name == "" || name != s.OpenStack() {
		if _, err := s.Cluster(name); err != nil {
			return "", err
		}
		return cluster.Find(component)
	}
	if !slices.Contains(openstack.Services(), component) {
		return "", fmt.Errorf("there is no component %q; there are %s", component, strings.Join(openstack.Services(), ", "))
	}
	return component, nil
}

func (in *inside) startOpenStack(ctx context.Context, netNS string, components *component.Cache, start time.Time) error {
	name := in.state.OpenStack()
	dir := in.state.ClusterDir(name)
	o, err := openstack.Start(ctx, openstack.Options{
		Name: name, Dir: dir, Address: in.state.Plan.Lab.Addr(), KeystonePort: 5000, OctaviaPort: 9876, Components: components,
	})
	if err != nil {
		return err
	}
	in.mu.Lock()
	in.cloud = o
	in.members = &member.Pool{Program: in.state.Member(), Cluster: name, NetNS: netNS, Range: in.state.Plan.Members.Range, Dir: dir}
	in.mu.Unlock()
	in.say("OpenStack %s is ready, after %s.", name, time.Since(start).Round(time.Second))
	return errors.Join(giveAway(o.CloudsFile()), giveAway(o.CAFile()))
}

// addOpenStack does what deploy/samples/openstack.yaml tells an operator to do, makes
// the sample load balancers, and returns the manifests of routes to them.
func (in *inside) addOpenStack(ctx context.Context, deploy string) ([]byte, error) {
	name := in.cloud.Name()
	upstream, err := in.upstreamManifest(filepath.Join(deploy, "samples", "openstack.yaml"))
	if err != nil {
		return nil, err
	}
	secret, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]string{"name": name, "namespace": "gimbal-discovery"},
		"data": map[string][]byte{"clouds.yaml": in.cloud.CloudsYAML(name), "ca.crt": in.cloud.CA()},
	})
	if err != nil {
		return nil, err
	}
	for _, manifest := range [][]byte{secret, upstream} {
		if err := in.central().Apply(ctx, manifest); err != nil {
			return nil, err
		}
	}
	shops := samples.Shops(in.state.Plan.Members.Range)
	group, ctx := errgroup.WithContext(ctx)
	for i := range shops {
		group.Go(func() error { return in.openShop(ctx, &shops[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return samples.Routes(name, shops)
}

// upstreamManifest is the sample UpstreamCluster with the lab's own addresses, and a
// pace that nobody needs to wait for.
func (in *inside) upstreamManifest(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("add upstream %s: %w", in.cloud.Name(), err)
	}
	for field, value := range map[string]string{"pollInterval": "5s", "allowedCIDRs": "[" + in.state.Plan.Members.Range.String() + "]"} {
		line := regexp.MustCompile(`(?m)^( *` + field + `:).*$`)
		if !line.Match(b) {
			return nil, fmt.Errorf("add upstream %s: %s has no %s", in.cloud.Name(), path, field)
		}
		b = line.ReplaceAll(b, []byte("${1} "+value))
	}
	return b, nil
}

// openShop starts a shop's members and makes its load balancer.
func (in *inside) openShop(ctx context.Context, shop *samples.Shop) error {
	for _, m := range append(shop.Members, shop.VIP) {
		if err := in.members.Start(ctx, m); err != nil {
			return err
		}
	}
	project, err := in.cloud.CreateProject(ctx, "", shop.Team)
	if err != nil {
		return err
	}
	shop.ID, err = in.cloud.CreateLoadBalancer(ctx, project, shop.LoadBalancer())
	return err
}

// StartMember starts a process that a load balancer can have as a member.
func (in *inside) StartMember(ctx context.Context, m member.Member) error {
	pool, err := in.pool()
	if err != nil {
		return err
	}
	return pool.Start(ctx, m)
}

// StopMember ends the process that listens there.
func (in *inside) StopMember(at netip.AddrPort) error {
	pool, err := in.pool()
	if err != nil {
		return err
	}
	return pool.Stop(at)
}

func (in *inside) pool() (*member.Pool, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.members == nil {
		return nil, errors.New("members belong to an OpenStack, which this lab lacks or is only just starting; see lab up --openstack")
	}
	return in.members, nil
}
