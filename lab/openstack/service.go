package openstack

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/projectcontour/gimbal/lab/process"
)

// The services by name.
const (
	Keystone = "keystone"
	Octavia  = "octavia"
	MariaDB  = "mariadb"
	Neutron  = "neutron"
)

// Services lists the services that there always are: Keystone, Octavia, and MariaDB, which is Octavia's database.
func Services() []string { return []string{Keystone, Octavia, MariaDB} }

// StartService starts a service, where it doesn't run, with the data and at the
// address that it had before, and returns once it answers.
func (o *OpenStack) StartService(ctx context.Context, name string) error {
	services := Services()
	if o.neutronPort != 0 {
		services = append(services, Neutron)
	}
	if !slices.Contains(services, name) {
		return fmt.Errorf("there is no service %q; there are %s", name, strings.Join(services, ", "))
	}
	p, err := o.spawn(name)
	if err != nil {
		return err
	}
	if err := process.Await(ctx, p, func(ctx context.Context) error { return o.ready(ctx, name) }); err != nil {
		return err
	}
	if name == MariaDB {
		return nil
	}
	return o.openFront(name)
}

// StopService ends a service; connections to it are refused until StartService. What
// Octavia was at then stays pending for ever.
func (o *OpenStack) StopService(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.running[name]
	if !ok {
		return fmt.Errorf("stop %s of %s: it doesn't run", name, o.opts.Name)
	}
	if f, ok := o.fronts[name]; ok {
		f.close()
		delete(o.fronts, name)
	}
	p.Stop(5 * time.Second)
	delete(o.running, name)
	return nil
}

// PauseService makes a service hang: it accepts connections and never answers, until
// ResumeService.
func (o *OpenStack) PauseService(name string) error {
	return o.signal(name, (*process.Process).Pause)
}

// ResumeService lets a paused service go on.
func (o *OpenStack) ResumeService(name string) error {
	return o.signal(name, (*process.Process).Resume)
}

func (o *OpenStack) signal(name string, signal func(*process.Process) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.running[name]
	if !ok {
		return fmt.Errorf("%s of %s doesn't run; start it first", name, o.opts.Name)
	}
	return signal(p)
}

// HoldChanges has Octavia's worker begin nothing, so that each change that its API takes
// stays pending, or lets it go on. With StopService in between, what was held is lost.
func (o *OpenStack) HoldChanges(hold bool) error {
	if hold {
		return os.WriteFile(o.file("octavia.hold"), nil, 0o600)
	}
	return os.Remove(o.file("octavia.hold"))
}

// spawn starts a service's program unless it runs already.
func (o *OpenStack) spawn(name string) (*process.Process, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.running[name]; ok && p.Failure() == nil {
		return p, nil
	}
	path, args := o.python, []string{o.file("serve.py"), name, o.file(name + ".conf")}
	if name == MariaDB {
		path, args = o.mysql, o.mysqlFlags()
	}
	p, err := process.Start(process.Spec{
		Name: name + " of " + o.opts.Name, Path: path, Args: args, Dir: o.opts.Dir, Log: o.Log(name),
	})
	if err != nil {
		return nil, err
	}
	o.running[name] = p
	return p, nil
}

// mysqlFlags: nobody but this directory's owner reaches the socket, which takes the
// place of users and their rights.
func (o *OpenStack) mysqlFlags() []string {
	flags := []string{
		"--no-defaults", "--datadir=" + o.file("mariadb"), "--socket=mariadb.sock", "--skip-networking", "--skip-grant-tables",
		"--skip-log-bin", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF",
		"--innodb-autoextend-increment=1", "--innodb-fast-shutdown=2", "--innodb-flush-log-at-trx-commit=2",
	}
	if os.Geteuid() == 0 {
		flags = append(flags, "--user=root")
	}
	return flags
}

// socket is the path of the unix socket that a service listens on.
func (o *OpenStack) socket(name string) string {
	if name == MariaDB {
		return o.file("mariadb/mariadb.sock")
	}
	return o.file(name + ".sock")
}

// ready tells whether a service answers.
func (o *OpenStack) ready(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if name == MariaDB {
		return o.greeted(ctx)
	}
	client := http.Client{Transport: unixTransport(o.socket(name))}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+map[string]string{Keystone: "/v3", Octavia: "/", Neutron: "/"}[name], nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", name, res.Status)
	}
	return nil
}

// greeted tells whether MariaDB greets who connects.
func (o *OpenStack) greeted(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", o.socket(MariaDB))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
