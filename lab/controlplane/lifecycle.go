package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/process"
)

func (c *ControlPlane) startEtcd() error {
	client, err := c.listenURL()
	if err != nil {
		return err
	}
	peer, err := c.listenURL()
	if err != nil {
		return err
	}
	c.etcdURL = client
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spawn(component.Etcd,
		"--name", c.opts.Name, "--data-dir", filepath.Join(c.opts.Dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", c.opts.Name+"="+peer,
		"--unsafe-no-fsync", "--log-level", "warn")
}

// listenURL is where etcd listens: beside the API server, except in a namespace
// of its own, where loopback is nobody else's.
func (c *ControlPlane) listenURL() (string, error) {
	address := c.opts.Address
	if c.opts.NetNS != "" {
		address = "127.0.0.1"
	}
	port, err := process.FreePort(c.opts.NetNS, address)
	if err != nil {
		return "", err
	}
	return "http://" + net.JoinHostPort(address, strconv.Itoa(port)), nil
}

// StartAPIServer starts the API server, where it doesn't run, with the data and
// at the URL that it had before, and returns once it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	err := c.spawn(component.APIServer, c.apiServerFlags()...)
	p := c.running[component.APIServer]
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return process.Await(ctx, p, c.ready)
}

func (c *ControlPlane) apiServerFlags() []string {
	o := c.opts
	flags := []string{
		"--etcd-servers", c.etcdURL,
		"--bind-address", o.Address, "--advertise-address", o.Address, "--secure-port", strconv.Itoa(o.Port),
		"--tls-cert-file", c.file("apiserver.crt"), "--tls-private-key-file", c.file("apiserver.key"),
		"--client-ca-file", c.file("ca.crt"),
		"--kubelet-client-certificate", c.file("kubelet-client.crt"), "--kubelet-client-key", c.file("kubelet-client.key"),
		"--kubelet-preferred-address-types", "InternalIP",
		"--authorization-mode", "Node,RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", c.file("sa.pub"), "--service-account-signing-key-file", c.file("sa.key"),
		"--service-cluster-ip-range", o.ServiceCIDR,
		"--allow-privileged",
	}
	if address, err := netip.ParseAddr(o.Address); err == nil && address.IsLoopback() {
		// The API server refuses loopback addresses in EndpointSlices, its own among them.
		flags = append(flags, "--endpoint-reconciler-type", "none")
	}
	if o.AuditLog != "" {
		flags = append(flags, "--audit-log-path", o.AuditLog, "--audit-policy-file", o.AuditPolicy,
			"--audit-log-mode", "batch", "--audit-log-batch-max-wait", "200ms")
	}
	return append(flags, o.APIServerFlags...)
}

// StopAPIServer ends the API server at once; connections to it are refused until StartAPIServer.
func (c *ControlPlane) StopAPIServer() error {
	return c.stop(component.APIServer)
}

// PauseAPIServer makes the API server hang: it accepts connections and never
// answers, until ResumeAPIServer.
func (c *ControlPlane) PauseAPIServer() error { return c.signalAPIServer((*process.Process).Pause) }

// ResumeAPIServer lets a paused API server go on.
func (c *ControlPlane) ResumeAPIServer() error { return c.signalAPIServer((*process.Process).Resume) }

func (c *ControlPlane) signalAPIServer(signal func(*process.Process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.running[component.APIServer]
	if !ok {
		return fmt.Errorf("the API server of %s doesn't run; start it first", c.opts.Name)
	}
	return signal(p)
}

// StartControllerManager starts the controller manager where it doesn't run.
func (c *ControlPlane) StartControllerManager() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	kubeconfig := c.file("controller-manager.kubeconfig")
	flags := []string{
		"--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port", "0",
		"--controllers", strings.Join(c.opts.Controllers, ","),
		"--use-service-account-credentials",
		"--service-account-private-key-file", c.file("sa.key"), "--root-ca-file", c.file("ca.crt"),
		"--service-cluster-ip-range", c.opts.ServiceCIDR,
	}
	return c.spawn(component.ControllerManager, append(flags, c.opts.ControllerManagerFlags...)...)
}

// StopControllerManager ends the controller manager; StartControllerManager starts it again.
func (c *ControlPlane) StopControllerManager() error {
	return c.stop(component.ControllerManager)
}

// Stop ends every program and removes the directory if Start made it. Stopping
// what has stopped does nothing.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{component.ControllerManager, component.APIServer, component.Etcd} {
		if p, ok := c.running[name]; ok {
			p.Kill()
			delete(c.running, name)
		}
	}
	if c.temporary {
		return os.RemoveAll(c.opts.Dir)
	}
	return nil
}

// spawn starts a program unless it runs already. The caller holds mu.
func (c *ControlPlane) spawn(program string, args ...string) error {
	if p, ok := c.running[program]; ok && p.Failure() == nil {
		return nil
	}
	p, err := process.Start(process.Spec{
		Name: program + " of " + c.opts.Name, Path: c.programs[program], Args: args,
		Dir: c.opts.Dir, Log: c.Log(program), NetNS: c.opts.NetNS,
	})
	if err != nil {
		return err
	}
	c.running[program] = p
	return nil
}

func (c *ControlPlane) stop(program string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.running[program]
	if !ok {
		return fmt.Errorf("stop %s of %s: it doesn't run", program, c.opts.Name)
	}
	p.Kill()
	delete(c.running, program)
	return nil
}

// ready tells whether the API server answers and has made what every client
// counts on, the default namespace.
func (c *ControlPlane) ready(ctx context.Context) error {
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
		if err := c.request(ctx, http.MethodGet, path, nil, nil); err != nil {
			return err
		}
	}
	return nil
}
