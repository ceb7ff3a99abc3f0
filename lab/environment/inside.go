package environment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/projectcontour/gimbal/lab/cluster"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/control"
	"github.com/projectcontour/gimbal/lab/image"
	"github.com/projectcontour/gimbal/lab/member"
	"github.com/projectcontour/gimbal/lab/network"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/lab/state"
)

// limit is how long clusters, or the installation, may take to become ready.
const limit = 5 * time.Minute

// inside is the lab's process inside the containment.
type inside struct {
	state    *state.State
	progress io.Writer

	mu       sync.Mutex
	phase    string
	clusters map[string]*cluster.Cluster
	cloud    *openstack.OpenStack
	members  *member.Pool
}

// Inside does, inside the containment, what the state in dir says: it starts the
// clusters, installs Gimbal, and runs the command or waits for ctx's end.
func Inside(ctx context.Context, dir string, progress io.Writer) (code int, err error) {
	s, err := state.Read(dir)
	if err != nil {
		return 0, err
	}
	in := &inside{state: s, progress: progress, phase: "starting", clusters: map[string]*cluster.Cluster{}}
	if err := control.Serve(s.Control(), in); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := in.startClusters(ctx); err != nil {
		return 0, ended(ctx, err)
	}
	if err := in.furnish(ctx); err != nil {
		return 0, ended(ctx, err)
	}
	in.say("Ready after %s.", time.Since(start).Round(time.Second))
	in.mu.Lock()
	in.phase = "ready"
	in.mu.Unlock()
	if len(s.Command) > 0 {
		return in.runCommand(ctx)
	}
	in.printGuide()
	<-ctx.Done()
	return 0, nil
}

// ended hides the errors that come of the user's own wish to end the lab.
func ended(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

func (in *inside) startClusters(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	components, err := component.Open(in.progress)
	if err != nil {
		return err
	}
	namespaces, err := in.state.Plan.Build(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, plan := range in.state.Plan.Clusters {
		images := in.state.BaseImages
		if i == 0 {
			images = slices.Concat(images, in.state.CentralImages)
		}
		group.Go(func() error {
			return in.startCluster(ctx, plan, namespaces[plan.Name], images, components, start)
		})
	}
	if in.state.OpenStack() != "" {
		group.Go(func() error { return in.startOpenStack(ctx, namespaces[in.state.OpenStack()], components, start) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return in.mergeKubeconfigs()
}

func (in *inside) startCluster(ctx context.Context, plan network.Cluster, netNS string, images []string, components *component.Cache, start time.Time) error {
	c, err := cluster.Start(ctx, cluster.Options{
		Cluster: plan, NetNS: netNS, Dir: in.state.ClusterDir(plan.Name), Run: "/run/" + plan.Name, Bin: in.state.Bin(),
		Cgroup: in.state.Cgroup + "/" + plan.Name, Images: images, PauseImage: image.Pause, DNSImage: image.CoreDNS,
		Components: components,
	})
	if err != nil {
		return err
	}
	in.mu.Lock()
	in.clusters[plan.Name] = c
	in.mu.Unlock()
	in.say("Cluster %s is ready, after %s.", plan.Name, time.Since(start).Round(time.Second))
	return nil
}

// mergeKubeconfigs writes one kubeconfig with every cluster's context. As sudo's
// user is whom it is for, that user owns it.
func (in *inside) mergeKubeconfigs() error {
	var rules clientcmd.ClientConfigLoadingRules
	for _, plan := range in.state.Plan.Clusters {
		rules.Precedence = append(rules.Precedence, in.clusters[plan.Name].Kubeconfig())
	}
	merged, err := rules.Load()
	if err != nil {
		return fmt.Errorf("merge the kubeconfigs: %w", err)
	}
	if err := clientcmd.WriteToFile(*merged, in.state.Kubeconfig()); err != nil {
		return fmt.Errorf("merge the kubeconfigs: %w", err)
	}
	return giveAway(in.state.Kubeconfig())
}

// giveAway makes sudo's user, if there is one, the owner of a file.
func giveAway(path string) error {
	if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil {
		return os.Chown(path, uid, -1)
	}
	return nil
}

// runCommand runs the lab's command and returns its exit code.
func (in *inside) runCommand(ctx context.Context) (int, error) {
	env := append(os.Environ(), in.state.Environ()...)
	// The components' kubectl comes first, for finding the command too.
	if err := os.Setenv("PATH", in.state.Bin()+":"+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, in.state.Command[0], in.state.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case errors.As(err, &exit):
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal()), nil
	case err != nil:
		return 0, fmt.Errorf("run %s in the lab: %w", filepath.Base(in.state.Command[0]), err)
	}
	return 0, nil
}

// Status tells other commands how the lab is.
func (in *inside) Status() control.Status {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := control.Status{Phase: in.phase}
	for _, plan := range in.state.Plan.Clusters {
		one := control.ClusterStatus{Name: plan.Name, Components: cluster.Components()}
		if c, ok := in.clusters[plan.Name]; ok {
			one.Server, one.Running = c.URL(), c.PIDs()
		}
		s.Clusters = append(s.Clusters, one)
	}
	if name := in.state.OpenStack(); name != "" {
		one := control.ClusterStatus{Name: name, Components: openstack.Services()}
		if in.cloud != nil {
			one.Server, one.Running = in.cloud.AuthURL(), in.cloud.PIDs()
		}
		s.Clusters = append(s.Clusters, one)
	}
	return s
}

// Machine returns a cluster, or the OpenStack, that is ready, and the full name of a
// component of it.
func (in *inside) Machine(name, component string) (control.Machine, string, error) {
	full, err := FindComponent(in.state, name, component)
	if err != nil {
		return nil, "", err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if c, ok := in.clusters[name]; ok {
		return c, full, nil
	}
	if name == in.state.OpenStack() && in.cloud != nil {
		return services{in.cloud}, full, nil
	}
	return nil, "", fmt.Errorf("%s is only just starting; try again", name)
}

func (in *inside) say(format string, args ...any) {
	fmt.Fprintf(in.progress, format+"\n", args...)
}
