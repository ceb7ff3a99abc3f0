// Package openstack starts a real OpenStack, as far as load balancers go: Keystone,
// Octavia whose amphorae do nothing, and where it is wanted a Neutron without agents,
// as plain processes. Their users reach them by TLS. It needs no root, is ready in
// seconds, and its processes die with the caller's.
package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/pki"
	"github.com/projectcontour/gimbal/lab/process"
)

// Options say which OpenStack to start. The zero value is a useful one.
type Options struct {
	// Name is what messages call it. Default: "openstack".
	Name string
	// Dir holds its data, keys and logs. Default: a temporary directory that Stop removes.
	Dir string
	// Address is the IP address that Keystone and Octavia listen on. Default: 127.0.0.1.
	Address netip.Addr
	// KeystonePort and OctaviaPort are theirs. Default: ports that are free.
	KeystonePort, OctaviaPort int
	// Settings are those to start with.
	Settings Settings
	// Components gives the programs. Default: the cache of the checkout that holds
	// the working directory, with progress on standard error.
	Components *component.Cache
}

// OpenStack is a running OpenStack, with its administrator's client. Its methods are
// safe for concurrent use.
type OpenStack struct {
	*Client

	opts          Options
	temporary     bool
	ca            *pki.Authority
	python, mysql string
	neutronPort   int // 0 where there is none

	mu       sync.Mutex
	settings Settings
	running  map[string]*process.Process
	fronts   map[string]*front
	fail     func(*http.Request) int
}

// Start starts an OpenStack and returns once it answers and has the discoverer's
// user. The programs are fetched first if the cache lacks them. The OpenStack
// outlives ctx, which limits only the start.
func Start(ctx context.Context, opts Options) (*OpenStack, error) {
	o := &OpenStack{opts: opts, settings: opts.Settings, running: map[string]*process.Process{}, fronts: map[string]*front{}}
	if err := o.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare OpenStack %s: %w", o.opts.Name, err), o.Stop())
	}
	if err := o.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start OpenStack %s: %w", o.opts.Name, err), o.Stop())
	}
	return o, nil
}

func (o *OpenStack) prepare(ctx context.Context) error {
	opts := &o.opts
	if opts.Name == "" {
		opts.Name = "openstack"
	}
	if !opts.Address.IsValid() {
		opts.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if opts.Components == nil {
		cache, err := component.Open(os.Stderr)
		if err != nil {
			return err
		}
		opts.Components = cache
	}
	var err error
	if o.python, err = opts.Components.Path(ctx, component.OpenStack); err != nil {
		return err
	}
	if o.mysql, err = opts.Components.Path(ctx, component.MariaDB); err != nil {
		return err
	}
	data, err := opts.Components.Path(ctx, component.OpenStackData)
	if err != nil {
		return err
	}
	if err := o.prepareDir(data); err != nil {
		return err
	}
	if o.ca, err = pki.New(opts.Name); err != nil {
		return err
	}
	if err := o.prepareAccess(); err != nil {
		return err
	}
	return o.writeFiles()
}

// prepareDir makes the directory and fills it with the data to start with.
func (o *OpenStack) prepareDir(data string) error {
	if o.opts.Dir == "" {
		dir, err := os.MkdirTemp("", "gimbal-"+o.opts.Name+"-")
		if err != nil {
			return err
		}
		o.opts.Dir, o.temporary = dir, true
	}
	dir, err := filepath.Abs(o.opts.Dir)
	if err != nil {
		return err
	}
	o.opts.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(data)); err != nil {
		return fmt.Errorf("copy the data to start with: %w; it takes a directory of its own", err)
	}
	return errors.Join(os.Chmod(o.file("fernet"), 0o700), os.Chmod(o.file("credential"), 0o700))
}

// prepareAccess settles the URLs and the passwords.
func (o *OpenStack) prepareAccess() error {
	password, err := os.ReadFile(o.file("password"))
	if err != nil {
		return err
	}
	ports := []*int{&o.opts.KeystonePort, &o.opts.OctaviaPort}
	if o.opts.Settings.Network != NoNetwork {
		ports = append(ports, &o.neutronPort)
	}
	for _, port := range ports {
		if *port == 0 {
			if *port, err = process.FreePort("", o.opts.Address.String()); err != nil {
				return err
			}
		}
	}
	beats, err := process.FreePort("", o.opts.Address.String())
	if err != nil {
		return err
	}
	neutron := ""
	if o.neutronPort != 0 {
		neutron = "https://" + o.address(o.neutronPort)
	}
	o.Client, err = newClient(access{
		AuthURL: "https://" + o.address(o.opts.KeystonePort) + "/v3", OctaviaURL: "https://" + o.address(o.opts.OctaviaPort), NeutronURL: neutron,
		CA: string(o.ca.PEM()), AdminPassword: string(password), DiscovererPassword: newPassword(),
		ServicePassword: newPassword(), Heartbeats: o.address(beats), HeartbeatKey: newPassword(),
	})
	return err
}

func (o *OpenStack) address(port int) string {
	return net.JoinHostPort(o.opts.Address.String(), strconv.Itoa(port))
}

func (o *OpenStack) start(ctx context.Context) error {
	group, all := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := o.StartService(all, MariaDB); err != nil {
			return err
		}
		if o.neutronPort != 0 {
			group.Go(func() error { return o.StartService(all, Neutron) })
		}
		return o.StartService(all, Octavia)
	})
	group.Go(func() error {
		if err := o.StartService(all, Keystone); err != nil {
			return err
		}
		return o.bootstrap(all)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if o.neutronPort != 0 {
		if err := o.makeNetworks(ctx); err != nil {
			return err
		}
	}
	if err := os.WriteFile(o.CloudsFile(), o.userClouds(o.opts.Name), 0o600); err != nil {
		return err
	}
	return o.save(o.AccessFile())
}

// Stop ends every service and removes the directory if Start made it. Stopping what
// has stopped does nothing.
func (o *OpenStack) Stop() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, f := range o.fronts {
		f.close()
		delete(o.fronts, name)
	}
	for name, p := range o.running {
		p.Kill()
		delete(o.running, name)
	}
	if o.temporary {
		return os.RemoveAll(o.opts.Dir)
	}
	return nil
}

// Name is what messages call it.
func (o *OpenStack) Name() string { return o.opts.Name }

// AccessFile is the path of the file that Open reads.
func (o *OpenStack) AccessFile() string { return o.file("access.json") }

// CloudsFile is the path of a clouds.yaml for people: the cloud called as this OpenStack
// is as the discoverer sees it, the one with -admin behind as its administrator does.
func (o *OpenStack) CloudsFile() string { return o.file("clouds.yaml") }

// CAFile is the path of the file that holds CA.
func (o *OpenStack) CAFile() string { return o.file("ca.crt") }

// Log is the path of a service's log.
func (o *OpenStack) Log(service string) string { return o.file(service + ".log") }

// PIDs returns the process ids of the services that run, by their names.
func (o *OpenStack) PIDs() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	pids := map[string]int{}
	for name, p := range o.running {
		if p.Failure() == nil {
			pids[name] = p.PID()
		}
	}
	return pids
}

func (o *OpenStack) file(name string) string { return filepath.Join(o.opts.Dir, name) }
