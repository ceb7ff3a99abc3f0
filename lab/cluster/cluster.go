// Package cluster starts whole Kubernetes clusters: a control plane and one
// node, with kubelet, containerd, kube-proxy and cluster DNS, in a network
// namespace. It needs root and is meant to run contained.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/controlplane"
	"github.com/projectcontour/gimbal/lab/network"
	"github.com/projectcontour/gimbal/lab/process"
)

// Options say which cluster to start.
type Options struct {
	network.Cluster

	// NetNS is the path of the cluster's network namespace.
	NetNS string
	// Dir holds the cluster's data and logs.
	Dir string
	// Run is a directory with a short path for sockets.
	Run string
	// Bin is a directory with every component's program.
	Bin string
	// Cgroup is the cgroup, below every hierarchy's root, that the node's pods live in.
	Cgroup string
	// Images are the archives to import.
	Images []string
	// PauseImage and DNSImage are the names of images among them.
	PauseImage, DNSImage string
	// Components gives the control plane's programs.
	Components *component.Cache
}

// Cluster is a running cluster.
type Cluster struct {
	*controlplane.ControlPlane

	opts Options

	mu      sync.Mutex
	running map[string]*process.Process
}

// Start starts a cluster and returns when its node is ready and its images are imported.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	c := &Cluster{opts: opts, running: map[string]*process.Process{}}
	if err := c.start(ctx); err != nil {
		return nil, fmt.Errorf("start cluster %s: %w", opts.Name, err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	o := c.opts
	if err := makeCgroup(o.Cgroup); err != nil {
		return err
	}
	if err := c.startRuntime(ctx); err != nil {
		return err
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{
		Name: o.Name, Dir: o.Dir, Address: o.Node.String(), Port: 6443, NetNS: o.NetNS,
		ServiceCIDR: o.Services.String(), Controllers: []string{"*"},
		ControllerManagerFlags: []string{
			"--allocate-node-cidrs", "--cluster-cidr", o.Pods.String(), "--node-cidr-mask-size", fmt.Sprint(o.NodePods.Bits()),
			// A node that stops answering is given up sooner than by default, though not at
			// the first pause of a busy machine.
			"--node-monitor-grace-period", "30s",
		},
		Components: o.Components,
	})
	if err != nil {
		return err
	}
	c.ControlPlane = cp
	if err := c.writeNodeFiles(); err != nil {
		return err
	}
	for _, name := range nodeComponents() {
		if err := c.startNode(name); err != nil {
			return err
		}
	}
	if err := c.ImportImages(ctx, o.Images...); err != nil {
		return err
	}
	if err := process.Await(ctx, c.process(component.Kubelet), c.nodeReady); err != nil {
		return err
	}
	return c.Apply(ctx, c.dnsManifests())
}

// Components lists what StartComponent and StopComponent know.
func Components() []string {
	return append([]string{component.APIServer, component.ControllerManager, component.Containerd}, nodeComponents()...)
}

// nodeComponents are what runs besides the control plane and containerd.
func nodeComponents() []string {
	return []string{component.Scheduler, component.Kubelet, component.Proxy}
}

// Find returns the full name of one of Components, whose "kube-" may be left out.
func Find(name string) (string, error) {
	for _, full := range Components() {
		if name == full || "kube-"+name == full {
			return full, nil
		}
	}
	return "", fmt.Errorf("there is no component %q; there are %s", name, strings.Join(Components(), ", "))
}

// StopComponent ends one of Components.
func (c *Cluster) StopComponent(name string) error {
	switch name {
	case component.APIServer:
		return c.StopAPIServer()
	case component.ControllerManager:
		return c.StopControllerManager()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.running[name]
	if !ok {
		return fmt.Errorf("stop %s of %s: it doesn't run", name, c.opts.Name)
	}
	p.Stop(5 * time.Second)
	delete(c.running, name)
	return nil
}

// StartComponent starts one of Components that was stopped.
func (c *Cluster) StartComponent(ctx context.Context, name string) error {
	switch name {
	case component.APIServer:
		return c.StartAPIServer(ctx)
	case component.ControllerManager:
		return c.StartControllerManager()
	case component.Containerd:
		return c.startRuntime(ctx)
	default:
		return c.startNode(name)
	}
}

// PauseComponent stops one of Components in its tracks: it keeps its connections and answers nothing.
func (c *Cluster) PauseComponent(name string) error {
	return c.signal(name, c.PauseAPIServer, (*process.Process).Pause)
}

// ResumeComponent lets a paused component go on.
func (c *Cluster) ResumeComponent(name string) error {
	return c.signal(name, c.ResumeAPIServer, (*process.Process).Resume)
}

func (c *Cluster) signal(name string, apiServer func() error, other func(*process.Process) error) error {
	if name == component.APIServer {
		return apiServer()
	}
	p := c.process(name)
	if p == nil {
		return fmt.Errorf("%s of %s doesn't run or can't be paused", name, c.opts.Name)
	}
	return other(p)
}

// PIDs returns the process ids, as the lab sees them, of the components that run.
func (c *Cluster) PIDs() map[string]int {
	pids := c.ControlPlane.PIDs()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, p := range c.running {
		if p.Failure() == nil {
			pids[name] = p.PID()
		}
	}
	return pids
}

// spawn starts one of the node's programs unless it runs.
func (c *Cluster) spawn(name string, args ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.running[name]; ok && p.Failure() == nil {
		return nil
	}
	p, err := process.Start(process.Spec{
		Name: name + " of " + c.opts.Name, Path: filepath.Join(c.opts.Bin, name), Args: args,
		Env: append(os.Environ(), "PATH="+c.opts.Bin+":"+os.Getenv("PATH")),
		Dir: c.opts.Dir, Log: c.LogFile(name), NetNS: c.opts.NetNS,
	})
	if err != nil {
		return err
	}
	c.running[name] = p
	return nil
}

func (c *Cluster) process(name string) *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// LogFile is the path of a component's log.
func (c *Cluster) LogFile(name string) string { return filepath.Join(c.opts.Dir, name+".log") }

// NetNS is the path of the cluster's network namespace.
func (c *Cluster) NetNS() string { return c.opts.NetNS }

// Kubectl runs kubectl as the cluster's administrator and returns what it prints.
func (c *Cluster) Kubectl(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.opts.Bin, component.Kubectl), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return output(cmd, stdin, "kubectl in "+c.opts.Name)
}

// Apply applies manifests.
func (c *Cluster) Apply(ctx context.Context, manifests []byte) error {
	_, err := c.Kubectl(ctx, manifests, "apply", "--server-side", "-f", "-")
	return err
}

func (c *Cluster) nodeReady(ctx context.Context) error {
	out, err := c.Kubectl(ctx, nil, "get", "node", c.opts.Name, "-o",
		`jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.message}{end}`)
	if err != nil {
		return err
	}
	if len(out) < 4 || string(out[:4]) != "True" {
		return fmt.Errorf("node %s isn't ready: %s", c.opts.Name, out)
	}
	return nil
}

// ImportImages makes the archives' images known to the node's container runtime.
func (c *Cluster) ImportImages(ctx context.Context, archives ...string) error {
	for _, archive := range archives {
		cmd := exec.CommandContext(ctx, filepath.Join(c.opts.Bin, component.Ctr), "-a", c.socket(), "-n", "k8s.io", "images", "import", archive)
		if _, err := output(cmd, nil, "import "+filepath.Base(archive)+" into "+c.opts.Name); err != nil {
			return err
		}
	}
	return nil
}

// output runs cmd and returns what it printed; on failure the error says what it complained of.
func output(cmd *exec.Cmd, stdin []byte, what string) ([]byte, error) {
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return out, fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(exit.Stderr))
	}
	return out, fmt.Errorf("%s: %w", what, err)
}
