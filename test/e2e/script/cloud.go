package script

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"github.com/projectcontour/gimbal/lab/openstack"
)

// Cloud is one real OpenStack that a story works on.
type Cloud struct {
	// Name is that by which stories call it.
	Name string
	*openstack.Client
	// Services starts and breaks its services; nil where that can't be done.
	Services CloudServices
}

// CloudServices is what stories do to a cloud's services.
type CloudServices interface {
	StartService(ctx context.Context, name string) error
	StopService(name string) error
	PauseService(name string) error
	ResumeService(name string) error
}

// configurable is a cloud whose settings can be changed, and whose APIs be made to fail or to leave changes pending.
type configurable interface {
	Configure(ctx context.Context, s openstack.Settings) error
	Fail(with func(*http.Request) int)
	HoldChanges(hold bool) error
}

func (s *story) cloud(name string) (*Cloud, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clouds[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no cloud %q", name)
}

// startCloud starts a cloud of the story's own, to be stopped or broken.
func startCloud(s *story, args []string) (string, error) {
	if len(args) < 1 {
		return "", usage("cloud NAME [SETTING=VALUE…]")
	}
	if s.StartCloud == nil {
		return "", errors.New("further clouds can't be started here")
	}
	settings, err := cloudSettings(args[1:])
	if err != nil {
		return "", err
	}
	c, stop, err := s.StartCloud(args[0], filepath.Join(s.dir, ".cloud-"+args[0]), settings)
	if err != nil {
		return "", err
	}
	s.atEnd(func(testscript.T) { _ = stop() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clouds[c.Name] = c
	return "", nil
}

func cloudSettings(args []string) (set openstack.Settings, err error) {
	const how = usage("a setting is token=DURATION, pages=LIMIT, policy=stock, or network=own|global")
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "token":
			set.TokenLifetime, err = time.ParseDuration(v)
		case "pages":
			set.PageLimit, err = strconv.Atoi(v)
		case "policy":
			set.StockPolicy = v == "stock"
		case "network":
			set.Network = openstack.Network(v)
		default:
			err = how
		}
		if err != nil {
			return set, err
		}
	}
	return set, nil
}

// service starts, stops, pauses, resumes, holds or configures what a cloud is made of.
func service(s *story, args []string) (string, error) {
	how := usage("service CLOUD stop|start|pause|resume keystone|octavia|mariadb|neutron, service CLOUD hold|release octavia, service CLOUD configure [SETTING=VALUE…] or service CLOUD fail page-2|none")
	if len(args) < 2 {
		return "", how
	}
	c, err := s.cloud(args[0])
	if err != nil {
		return "", err
	}
	if c.Services == nil {
		return "", fmt.Errorf("other stories use %s too; start a cloud of your own", c.Name)
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	own, _ := c.Services.(configurable)
	switch {
	case args[1] == "configure" && own != nil:
		settings, err := cloudSettings(args[2:])
		if err != nil {
			return "", err
		}
		return "", own.Configure(ctx, settings)
	case len(args) != 3:
	case args[1] == "fail" && own != nil:
		return "", fail(own, args[2])
	case (args[1] == "hold" || args[1] == "release") && args[2] == openstack.Octavia && own != nil:
		return "", own.HoldChanges(args[1] == "hold")
	case args[1] == "stop":
		if s.Installed != "" {
			// Later stories want it back, whatever becomes of this one.
			s.atEnd(func(testscript.T) { _ = c.Services.StartService(context.Background(), args[2]) })
		}
		return "", c.Services.StopService(args[2])
	case args[1] == "start":
		return "", c.Services.StartService(ctx, args[2])
	case args[1] == "pause":
		return "", c.Services.PauseService(args[2])
	case args[1] == "resume":
		return "", c.Services.ResumeService(args[2])
	}
	return "", how
}

// fail has a cloud's APIs fail as the real ones can't be made to.
func fail(c configurable, fault string) error {
	switch fault {
	case "none":
		c.Fail(nil)
	case "page-2":
		c.Fail(func(r *http.Request) int {
			if r.URL.Query().Has("marker") {
				return http.StatusInternalServerError
			}
			return 0
		})
	default:
		return usage("service CLOUD fail page-2|none")
	}
	return nil
}

const openStackUsage = usage("openstack CLOUD create|set|begin|delete|get|beat PATH [FIELD=VALUE…] [FILE]")

// runOpenStack makes, changes, deletes or reads what a cloud has, as its administrator.
// What is made has the name of its path's end unless a field says otherwise; by that
// name the story calls it from then on.
func runOpenStack(s *story, args []string) (string, error) {
	if len(args) < 3 {
		return "", openStackUsage
	}
	c, err := s.cloud(args[0])
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	fields, err := s.fields(args[3:])
	if err != nil {
		return "", err
	}
	kind, name, _ := strings.Cut(args[2], "/")
	name, below, deep := strings.Cut(name, "/")
	name = s.expand(name)
	switch {
	case name == "":
		return "", openStackUsage
	case kind == "project" || kind == "domain":
		return "", s.identity(ctx, c, args[1], kind, name, fields)
	case kind == "port" || kind == "floatingip":
		return "", s.network(ctx, c, args[1], kind, name, fields)
	case kind == "loadbalancer" && !deep && args[1] == "create":
		return "", s.createLoadBalancer(ctx, c, name, fields)
	case kind != "loadbalancer":
		return "", openStackUsage
	}
	id := s.id("loadbalancer", name)
	if id == "" {
		return "", fmt.Errorf("the story has made no load balancer %q", name)
	}
	if err := s.resolve(ctx, c, id, fields); err != nil {
		return "", err
	}
	if !deep && args[1] == "delete" {
		s.remember(kind, name, "")
		return "", c.DeleteLoadBalancer(ctx, id)
	}
	return s.below(ctx, c, args[1], id, name, below, fields)
}

// below does what a story asks of a load balancer, or of what is below it.
func (s *story) below(ctx context.Context, c *Cloud, verb, id, name, path string, fields openstack.Object) (string, error) {
	switch verb {
	case "create":
		if fields["name"] == nil && filepath.Base(filepath.Dir(path)) != "rule" { // rules have none
			fields["name"] = filepath.Base(path)
		}
		o, err := c.Create(ctx, id, filepath.Dir(path), fields)
		s.remember("loadbalancer", name+"/"+path, o.ID())
		return "", err
	case "set":
		return "", c.Update(ctx, id, path, fields)
	case "begin":
		return "", c.Begin(ctx, id, path, fields)
	case "delete":
		return "", c.Delete(ctx, id, path)
	case "get":
		o, err := c.Get(ctx, id, path)
		if err != nil {
			return "", err
		}
		b, err := yaml.Marshal(o)
		return string(b), err
	case "beat":
		return "", s.beat(ctx, c, id, path, fields)
	}
	return "", openStackUsage
}

// resolve puts ids in the place of values that are @PATH.
func (s *story) resolve(ctx context.Context, c *Cloud, id string, fields openstack.Object) error {
	for k := range fields {
		path, ok := strings.CutPrefix(fields.String(k), "@")
		if !ok {
			continue
		}
		o, err := c.Get(ctx, id, path)
		if err != nil {
			return err
		}
		fields[k] = o.ID()
	}
	return nil
}

// fields reads FIELD=VALUE arguments, of which values are YAML, and files of such fields.
func (s *story) fields(args []string) (openstack.Object, error) {
	fields := openstack.Object{}
	for _, a := range args {
		text := ""
		if k, v, ok := strings.Cut(a, "="); ok {
			text = strconv.Quote(k) + ": " + s.expand(v)
			if strings.HasPrefix(v, "@") {
				text = strconv.Quote(k) + ": " + strconv.Quote(v)
			}
		} else {
			var err error
			if text, err = s.read(a); err != nil {
				return nil, err
			}
		}
		if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	repeat(fields)
	return fields, nil
}

// identity does what a story asks of Keystone.
func (s *story) identity(ctx context.Context, c *Cloud, verb, kind, name string, fields openstack.Object) (err error) {
	id := s.id(kind, name)
	switch verb + " " + kind {
	case "create domain":
		id, err = c.CreateDomain(ctx, name)
	case "create project":
		called := name
		if n := fields.String("name"); n != "" {
			called = n
		}
		id, err = c.CreateProject(ctx, s.id("domain", fields.String("domain")), called)
	case "set project":
		return c.RenameProject(ctx, id, fields.String("name"))
	case "delete project":
		return c.DeleteProject(ctx, id)
	default:
		return usage("openstack CLOUD create|set|delete project/NAME, or create domain/NAME")
	}
	s.remember(kind, name, id)
	return err
}

func (s *story) createLoadBalancer(ctx context.Context, c *Cloud, name string, fields openstack.Object) error {
	project := fields.String("project")
	delete(fields, "project")
	id := s.id("project", project)
	if id == "" {
		return fmt.Errorf("the story has made no project %q", project)
	}
	if fields["name"] == nil {
		fields["name"] = name
	}
	made, err := c.CreateLoadBalancer(ctx, id, fields)
	s.remember("loadbalancer", name, made)
	if s.Installed != "" {
		s.atEnd(func(testscript.T) {
			if s.id("loadbalancer", name) != made {
				return // the story has deleted it
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_ = c.DeleteLoadBalancer(ctx, made)
		})
	}
	return err
}

// beat sends a heartbeat with statuses of the members of a pool, by their names.
func (s *story) beat(ctx context.Context, c *Cloud, id, pool string, members openstack.Object) error {
	statuses := map[string]string{}
	for name := range members {
		m, err := c.Get(ctx, id, pool+"/member/"+name)
		if err != nil {
			return err
		}
		statuses[m.ID()] = members.String(name)
	}
	return c.Beat(ctx, id, statuses)
}

func (s *story) remember(kind, name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[kind+" "+name] = id
}

func (s *story) id(kind, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[kind+" "+name]
}

// printClouds prints a clouds.yaml for a cloud, as its operator would hand it over, or the
// certificate of its authority.
func printClouds(s *story, args []string) (string, error) {
	how := usage("clouds CLOUD credential|password|ca")
	if len(args) != 2 {
		return "", how
	}
	c, err := s.cloud(args[0])
	if err != nil {
		return "", err
	}
	switch args[1] {
	case "credential":
		return string(c.CloudsYAML(c.Name)), nil
	case "password":
		return string(c.PasswordCloudsYAML(c.Name)), nil
	case "ca":
		return string(c.CA()), nil
	}
	return "", how
}

// credentials is the content of the Secret with which an operator adds a cloud.
func (c *Cloud) credentials() map[string]string {
	return map[string]string{"clouds.yaml": string(c.CloudsYAML(c.Name)), "ca.crt": string(c.CA())}
}
