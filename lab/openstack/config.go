package openstack

import (
	"context"
	_ "embed"
	"net"
	"os"
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
}

// Configure changes the settings and starts the services that they concern again. No
// load balancer may be pending.
func (o *OpenStack) Configure(ctx context.Context, s Settings) error {
	o.mu.Lock()
	old := o.settings
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
)

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
	policy := "{}\n"
	if !s.StockPolicy {
		policy = `"load-balancer:global_observer": "role:admin or role:` + globalObserver + `"` + "\n"
	}
	if err := os.WriteFile(o.file("policy.yaml"), []byte(policy), 0o644); err != nil {
		return err
	}
	heartbeats, port, err := net.SplitHostPort(o.access.Heartbeats)
	if err != nil {
		return err
	}
	values := map[string]any{
		"Dir": o.opts.Dir, "TokenSeconds": int(s.TokenLifetime.Seconds()), "PageLimit": s.PageLimit,
		"Access": o.access, "KeystoneURL": strings.TrimSuffix(o.access.AuthURL, "/v3"), "HeartbeatAddress": heartbeats, "HeartbeatPort": port,
	}
	for name, text := range map[string]string{"keystone.conf": keystoneConf, "octavia.conf": octaviaConf} {
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
