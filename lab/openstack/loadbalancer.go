package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/lab/process"
)

// anySubnet is the id of a subnet, of which there are none and so all ids will do.
const anySubnet = "5ab5ab5a-0000-4000-8000-000000000000"

// CreateLoadBalancer makes a load balancer in a project, with whatever tree of
// listeners, pools and members it holds, and returns its id once it is active.
func (c *Client) CreateLoadBalancer(ctx context.Context, projectID string, tree Object) (string, error) {
	tree = maps.Clone(tree)
	tree["project_id"] = projectID
	if tree["vip_subnet_id"] == nil {
		tree["vip_subnet_id"] = anySubnet
	}
	out, err := c.octavia(ctx, http.MethodPost, "/lbaas/loadbalancers", Object{"loadbalancer": tree})
	if err != nil {
		return "", fmt.Errorf("make load balancer %s: %w", tree.String("name"), err)
	}
	id := inner(out, "loadbalancer").ID()
	return id, c.AwaitActive(ctx, id)
}

// LoadBalancerID returns the id of a project's only load balancer called name.
func (c *Client) LoadBalancerID(ctx context.Context, projectID, name string) (string, error) {
	query := url.Values{"project_id": {projectID}, "name": {name}}
	out, err := c.octavia(ctx, http.MethodGet, "/lbaas/loadbalancers?"+query.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("find load balancer %s: %w", name, err)
	}
	found := list(out, "loadbalancers")
	if len(found) != 1 {
		return "", fmt.Errorf("find load balancer %s of project %s: there are %d", name, projectID, len(found))
	}
	return found[0].ID(), nil
}

// DeleteLoadBalancer deletes a load balancer with all below it and returns once it is gone.
func (c *Client) DeleteLoadBalancer(ctx context.Context, id string) error {
	if err := c.AwaitActive(ctx, id); err != nil {
		return err
	}
	if _, err := c.octavia(ctx, http.MethodDelete, "/lbaas/loadbalancers/"+id+"?cascade=true", nil); err != nil {
		return fmt.Errorf("delete load balancer %s: %w", id, err)
	}
	return process.Await(ctx, nil, func(ctx context.Context) error {
		o, err := c.Get(ctx, id, "")
		switch {
		case gophercloud.ResponseCodeIs(err, http.StatusNotFound):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("load balancer %s is %s", id, o.String("provisioning_status"))
		}
	})
}

// Members lists a pool's members, whatever the page limit.
func (c *Client) Members(ctx context.Context, poolID string) ([]Object, error) {
	var all []Object
	for next := c.access.OctaviaURL + "/v2.0/lbaas/pools/" + poolID + "/members"; next != ""; {
		out, err := c.do(ctx, http.MethodGet, next, nil)
		if err != nil {
			return nil, fmt.Errorf("list the members of pool %s: %w", poolID, err)
		}
		all, next = append(all, list(out, "members")...), ""
		for _, link := range list(out, "members_links") {
			if link.String("rel") == "next" {
				next = link.String("href")
			}
		}
	}
	return all, nil
}

// AwaitActive waits until nothing is pending for a load balancer.
func (c *Client) AwaitActive(ctx context.Context, id string) error {
	var failed error
	err := process.Await(ctx, nil, func(ctx context.Context) error {
		o, err := c.Get(ctx, id, "")
		if err != nil {
			return err
		}
		switch status := o.String("provisioning_status"); status {
		case "ACTIVE":
			return nil
		case "ERROR":
			failed = fmt.Errorf("load balancer %s is in provisioning status ERROR; Octavia's log says why", id)
			return nil
		default:
			return fmt.Errorf("load balancer %s is %s", id, status)
		}
	})
	return errors.Join(err, failed)
}

// Get returns an object of a load balancer. A path names it by kinds and names (or
// ids) from the load balancer down, such as listener/http, pool/web/member/m1 or
// listener/http/l7policy/canary; the empty path is the load balancer itself.
func (c *Client) Get(ctx context.Context, id, path string) (Object, error) {
	if path == "" {
		out, err := c.octavia(ctx, http.MethodGet, "/lbaas/loadbalancers/"+id, nil)
		if err != nil {
			return nil, fmt.Errorf("read load balancer %s: %w", id, err)
		}
		return inner(out, "loadbalancer"), nil
	}
	_, o, err := c.find(ctx, id, path)
	return o, err
}

// Create makes an object below a load balancer, at a path that ends with its kind,
// such as listener or pool/web/member, and returns it once that is active.
func (c *Client) Create(ctx context.Context, id, path string, o Object) (Object, error) {
	above, kind := split(path)
	parent := id
	if above != "" {
		_, found, err := c.find(ctx, id, above)
		if err != nil {
			return nil, err
		}
		parent = found.ID()
	}
	k, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	o = maps.Clone(o)
	if k.parent != "" {
		o[k.parent] = parent
	}
	var made Object
	err = c.change(ctx, id, func() error {
		out, err := c.octavia(ctx, http.MethodPost, k.url(parent), Object{kind: o})
		made = inner(out, kind)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make %s of load balancer %s: %w", path, id, err)
	}
	return made, nil
}

// Update changes the object at path and returns once the load balancer is active.
func (c *Client) Update(ctx context.Context, id, path string, changes Object) error {
	if err := c.Begin(ctx, id, path, changes); err != nil {
		return err
	}
	return c.AwaitActive(ctx, id)
}

// Begin begins to change the object at path: the load balancer is pending from then on. A
// path that ends with members stands for all of a pool's, which are exchanged at once for
// those in the field of that name.
func (c *Client) Begin(ctx context.Context, id, path string, changes Object) error {
	location, body, err := c.changeOf(ctx, id, path, changes)
	if err != nil {
		return err
	}
	if err := c.AwaitActive(ctx, id); err != nil {
		return err
	}
	if _, err := c.octavia(ctx, http.MethodPut, location, body); err != nil {
		return fmt.Errorf("change %s of load balancer %s: %w", path, id, err)
	}
	return nil
}

// changeOf returns where a change is put, and its body.
func (c *Client) changeOf(ctx context.Context, id, path string, changes Object) (location string, body Object, err error) {
	above, last := split(path)
	switch {
	case path == "":
		return "/lbaas/loadbalancers/" + id, Object{"loadbalancer": changes}, nil
	case last == "members":
		location, _, err = c.find(ctx, id, above)
		return location + "/members", Object{"members": changes["members"]}, err
	default:
		_, kind := split(above)
		location, _, err = c.find(ctx, id, path)
		return location, Object{kind: changes}, err
	}
}

// Delete deletes the object at path and returns once the load balancer is active.
func (c *Client) Delete(ctx context.Context, id, path string) error {
	location, _, err := c.find(ctx, id, path)
	if err != nil {
		return err
	}
	err = c.change(ctx, id, func() error {
		_, err := c.octavia(ctx, http.MethodDelete, location, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete %s of load balancer %s: %w", path, id, err)
	}
	return nil
}

// change does one change of a load balancer, which Octavia refuses while another is pending.
func (c *Client) change(ctx context.Context, id string, do func() error) error {
	if err := c.AwaitActive(ctx, id); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return c.AwaitActive(ctx, id)
}

// kind is how Octavia's API has one of the kinds of objects below a load balancer.
type kind struct {
	// plural is the key of a list.
	plural string
	// below is the URL of the parent's kind where the object is part of its parent's.
	below string
	// parent is the field that names the parent where it isn't.
	parent string
}

func (k kind) url(parent string) string {
	if k.below != "" {
		return "/lbaas/" + k.below + "/" + parent + "/" + k.plural
	}
	return "/lbaas/" + k.plural
}

func kindOf(name string) (kind, error) {
	kinds := map[string]kind{
		"listener":      {plural: "listeners", parent: "loadbalancer_id"},
		"pool":          {plural: "pools", parent: "loadbalancer_id"},
		"member":        {plural: "members", below: "pools"},
		"healthmonitor": {plural: "healthmonitors", parent: "pool_id"},
		"l7policy":      {plural: "l7policies", parent: "listener_id"},
		"rule":          {plural: "rules", below: "l7policies"},
	}
	k, ok := kinds[name]
	if !ok {
		return k, fmt.Errorf("there is no kind %q of objects below a load balancer; there are listener, pool, member, healthmonitor, l7policy and rule", name)
	}
	return k, nil
}

// split takes the last part off a path.
func split(path string) (above, last string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// find returns the object at path, and its URL.
func (c *Client) find(ctx context.Context, id, path string) (string, Object, error) {
	parts := strings.Split(path, "/")
	if len(parts)%2 != 0 {
		return "", nil, fmt.Errorf("the path %q isn't pairs of a kind and a name", path)
	}
	parent, location, found := id, "", Object(nil)
	for i := 0; i < len(parts); i += 2 {
		k, err := kindOf(parts[i])
		if err != nil {
			return "", nil, err
		}
		if found, err = c.findBelow(ctx, parts[i], k, parent, parts[i+1]); err != nil {
			return "", nil, fmt.Errorf("find %s of load balancer %s: %w", path, id, err)
		}
		location, parent = k.url(parent)+"/"+found.ID(), found.ID()
	}
	return location, found, nil
}

// findBelow finds the object called name, or else the one with that id.
func (c *Client) findBelow(ctx context.Context, kindName string, k kind, parent, name string) (Object, error) {
	query := url.Values{"name": {name}}
	if k.parent != "" {
		query.Set(k.parent, parent)
	}
	if kindName != "rule" { // rules have no names
		out, err := c.octavia(ctx, http.MethodGet, k.url(parent)+"?"+query.Encode(), nil)
		if err != nil {
			return nil, err
		}
		switch found := list(out, k.plural); len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return nil, fmt.Errorf("several are called %s; name it by its id", name)
		}
	}
	out, err := c.octavia(ctx, http.MethodGet, k.url(parent)+"/"+url.PathEscape(name), nil)
	if err != nil {
		return nil, err
	}
	return inner(out, kindName), nil
}
