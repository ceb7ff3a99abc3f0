// Package controlplane starts Kubernetes control planes without a node: etcd,
// kube-apiserver and kube-controller-manager as plain processes. It needs no
// root, is ready in seconds, and its processes die with the caller's.
package controlplane

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/pki"
	"github.com/projectcontour/gimbal/lab/process"
)

// Options say which control plane to start. The zero value is a useful one.
type Options struct {
	// Name names the cluster and the kubeconfig's context. Default: "lab".
	Name string
	// Dir holds the control plane's data, keys, kubeconfig and logs. Default: a
	// temporary directory that Stop removes.
	Dir string
	// Address is the IP address that the API server listens on, and etcd too
	// unless NetNS is set. Default: 127.0.0.1.
	Address string
	// Port is the API server's. Default: one that is free.
	Port int
	// NetNS is the path of the network namespace to run in; it needs root.
	// Default: the caller's.
	NetNS string
	// ServiceCIDR is the range of Services' cluster IPs. Default: 10.96.0.0/16.
	ServiceCIDR string
	// Controllers are what the controller manager runs, by the names of its
	// --controllers flag. Default: DefaultControllers().
	Controllers []string
	// AuditPolicy is the path of an audit policy file. Default: with AuditLog set,
	// every request's metadata; without, no auditing.
	AuditPolicy string
	// AuditLog is the path of the audit log, one JSON object a line. Default:
	// audit.log in Dir where AuditPolicy is set.
	AuditLog string
	// APIServerFlags and ControllerManagerFlags come after the package's own flags.
	APIServerFlags         []string
	ControllerManagerFlags []string
	// Components gives the programs. Default: the cache of the checkout that holds
	// the working directory, with progress on standard error.
	Components *component.Cache
}

// DefaultControllers returns the controllers that Services, endpoints,
// namespaces, ServiceAccounts and roles need; there are none for workloads.
func DefaultControllers() []string {
	return []string{
		"endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller",
		"garbage-collector-controller", "namespace-controller", "serviceaccount-controller",
		"serviceaccount-token-controller", "root-ca-certificate-publisher-controller", "service-cidr-controller",
		"clusterrole-aggregation-controller",
	}
}

// ControlPlane is a running control plane. Its methods are safe for concurrent use.
type ControlPlane struct {
	opts      Options
	temporary bool
	etcdURL   string
	pki       *pki.Authority
	client    *http.Client
	programs  map[string]string

	mu      sync.Mutex
	running map[string]*process.Process
}

// Start starts a control plane and returns once its API server is ready and its
// controllers run. The programs are built first if the cache lacks them. The
// control plane outlives ctx, which limits only the start.
func Start(ctx context.Context, opts Options) (*ControlPlane, error) {
	c := &ControlPlane{opts: opts, programs: map[string]string{}, running: map[string]*process.Process{}}
	if err := c.prepare(ctx); err != nil {
		return nil, fmt.Errorf("start control plane %s: %w", c.opts.Name, err)
	}
	if err := c.start(ctx); err != nil {
		_ = c.Stop()
		return nil, fmt.Errorf("start control plane %s: %w", c.opts.Name, err)
	}
	return c, nil
}

func (c *ControlPlane) prepare(ctx context.Context) error {
	o := &c.opts
	setDefault(&o.Name, "lab")
	setDefault(&o.Address, "127.0.0.1")
	setDefault(&o.ServiceCIDR, "10.96.0.0/16")
	if o.Controllers == nil {
		o.Controllers = DefaultControllers()
	}
	if o.Components == nil {
		cache, err := component.Open(os.Stderr)
		if err != nil {
			return err
		}
		o.Components = cache
	}
	for _, name := range []string{component.Etcd, component.APIServer, component.ControllerManager} {
		path, err := o.Components.Path(ctx, name)
		if err != nil {
			return err
		}
		c.programs[name] = path
	}
	if err := c.prepareDir(); err != nil {
		return err
	}
	if o.Port == 0 {
		port, err := process.FreePort(o.NetNS, o.Address)
		if err != nil {
			return err
		}
		o.Port = port
	}
	ca, err := pki.New(o.Name)
	if err != nil {
		return err
	}
	c.pki = ca
	return c.writeFiles()
}

func (c *ControlPlane) prepareDir() error {
	o := &c.opts
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "gimbal-"+o.Name+"-")
		if err != nil {
			return err
		}
		o.Dir, c.temporary = dir, true
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = abs
	if o.AuditPolicy != "" {
		setDefault(&o.AuditLog, filepath.Join(o.Dir, "audit.log"))
	}
	return os.MkdirAll(o.Dir, 0o755)
}

func (c *ControlPlane) start(ctx context.Context) error {
	if err := c.startEtcd(); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	return c.StartControllerManager()
}

// Name is the cluster's and its context's name.
func (c *ControlPlane) Name() string { return c.opts.Name }

// Dir is the directory of the control plane's data, keys and logs.
func (c *ControlPlane) Dir() string { return c.opts.Dir }

// URL is the API server's, https with address and port; it stays the same when the API server restarts.
func (c *ControlPlane) URL() string {
	return "https://" + net.JoinHostPort(c.opts.Address, strconv.Itoa(c.opts.Port))
}

// CA is the certificate authority of the API server's certificate, in PEM.
func (c *ControlPlane) CA() []byte { return c.pki.PEM() }

// CAFile is the path of the file that holds CA.
func (c *ControlPlane) CAFile() string { return c.file("ca.crt") }

// Kubeconfig is the path of the administrator's kubeconfig; the file names no other files.
func (c *ControlPlane) Kubeconfig() string { return filepath.Join(c.opts.Dir, "kubeconfig") }

// AuditLog is the path of the audit log, empty where there is none.
func (c *ControlPlane) AuditLog() string { return c.opts.AuditLog }

// Log is the path of the log of etcd, kube-apiserver or kube-controller-manager.
func (c *ControlPlane) Log(program string) string {
	return filepath.Join(c.opts.Dir, program+".log")
}

// Tail writes the last n lines of each program's log to w.
func (c *ControlPlane) Tail(w io.Writer, n int) {
	for _, name := range []string{component.Etcd, component.APIServer, component.ControllerManager} {
		fmt.Fprintf(w, "==> %s <==\n%s\n", c.Log(name), process.Tail(c.Log(name), n))
	}
}

// PIDs returns the process ids of the programs that run, by their names.
func (c *ControlPlane) PIDs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	pids := map[string]int{}
	for name, p := range c.running {
		pids[name] = p.PID()
	}
	return pids
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
