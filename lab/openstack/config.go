package openstack

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// Settings are what can be changed while an OpenStack runs. The zero value is a useful one.
type Settings struct {
	// TokenLifetime is how long Keystone's tokens are valid. Default: an hour.
	TokenLifetime time.Duration
	// PageLimit is how many objects Octavia lists at once. Default: all.
	PageLimit int
	// StockPolicy leaves out the policy that lets the role
	// load-balancer_global_observer list every project's load balancers.
	StockPolicy bool
	// Network is the Neutron; whether there is one can't be changed.
	Network Network
}

// Network says whether there is a Neutron, and what the role load-balancer_global_observer sees there.
type Network string

const (
	// NoNetwork is none.
	NoNetwork Network = ""
	// OwnNetwork is one where the role sees what is its own project's, as Neutron's stock policy has it.
	OwnNetwork Network = "own"
	// GlobalNetwork is one where the role sees every project's floating addresses.
	GlobalNetwork Network = "global"
)

// Configure changes the settings and starts the services that they concern again. No
// load balancer may be pending.
func (o *OpenStack) Configure(ctx context.Context, s Settings) error {
	o.mu.Lock()
	old := o.settings
	if (s.Network == NoNetwork) != (old.Network == NoNetwork) {
		o.mu.Unlock()
		return fmt.Errorf("the network of %s is %q; whether there is one can't be changed", o.opts.Name, old.Network)
	}
	o.settings = s
	o.mu.Unlock()
	if err := o.writeConfigs(); err != nil {
		return err
	}
	if s.TokenLifetime != old.TokenLifetime {
		if err := o.restart(ctx, Keystone); err != nil {
			return err
		}
	}
	if s.Network != old.Network {
		if err := o.restart(ctx, Neutron); err != nil {
			return err
		}
	}
	if s.PageLimit != old.PageLimit || s.StockPolicy != old.StockPolicy {
		return o.restart(ctx, Octavia)
	}
	return nil
}

func (o *OpenStack) restart(ctx context.Context, name string) error {
	if err := o.StopService(name); err != nil {
		return err
	}
	return o.StartService(ctx, name)
}

var (
	//go:embed serve.py
	serve []byte
	//go:embed keystone.conf.tmpl
	keystoneConf string
	//go:embed octavia.conf.tmpl
	octaviaConf string
	//go:embed neutron.conf.tmpl
	neutronConf string
)

// globalNetworkPolicy is what docs/operator-guide.md tells an operator to write: Neutron's stock rules, and the role.
const globalNetworkPolicy = `"context_with_global_access": "role:` + globalObserver + `"
"get_floatingip": "rule:admin_only or (role:reader and project_id:%(project_id)s) or role:` + globalObserver + `"
"get_port": "rule:admin_only or rule:service_api or (role:reader and rule:network_owner) or (role:reader and project_id:%(project_id)s) or role:` + globalObserver + `"
`

// writeFiles writes what the services need besides their data.
func (o *OpenStack) writeFiles() error {
	key, err := o.ca.Key()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"serve.py": serve, "ca.crt": o.ca.PEM(), "ca.key": key} {
		if err := os.WriteFile(o.file(name), b, 0o600); err != nil {
			return err
		}
	}
	return o.writeConfigs()
}

func (o *OpenStack) writeConfigs() error {
	o.mu.Lock()
	s := o.settings
	o.mu.Unlock()
	if s.TokenLifetime == 0 {
		s.TokenLifetime = time.Hour
	}
	const nothing = "{}\n"
	policies := map[string]string{"policy.yaml": nothing, "neutron-policy.yaml": nothing}
	if !s.StockPolicy {
		policies["policy.yaml"] = `"load-balancer:global_observer": "role:admin or role:` + globalObserver + `"` + "\n"
	}
	if s.Network == GlobalNetwork {
		policies["neutron-policy.yaml"] = globalNetworkPolicy
	}
	for name, policy := range policies {
		if err := os.WriteFile(o.file(name), []byte(policy), 0o644); err != nil {
			return err
		}
	}
	heartbeats, port, err := net.SplitHostPort(o.access.Heartbeats)
	if err != nil {
		return err
	}
	values := map[string]any{
		"Dir": o.opts.Dir, "Site": filepath.Join(filepath.Dir(o.python), "site"), "TokenSeconds": int(s.TokenLifetime.Seconds()), "PageLimit": s.PageLimit,
		"Access": o.access, "KeystoneURL": strings.TrimSuffix(o.access.AuthURL, "/v3"), "HeartbeatAddress": heartbeats, "HeartbeatPort": port,
	}
	for name, text := range map[string]string{"keystone.conf": keystoneConf, "octavia.conf": octaviaConf, "neutron.conf": neutronConf} {
		t, err := template.New(name).Option("missingkey=error").Parse(text)
		if err != nil {
			return err
		}
		var b strings.Builder
		if err := t.Execute(&b, values); err != nil {
			return err
		}
		if err := os.WriteFile(o.file(name), []byte(b.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}
