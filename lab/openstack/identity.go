package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
)

const (
	region            = "RegionOne"
	defaultDomain     = "default"
	discoverer        = "discoverer"
	discovererProject = "gimbal"
	globalObserver    = "load-balancer_global_observer"
)

// bootstrap makes what an operator has before Gimbal comes, and the discoverer: it
// observes every project's load balancers, and reads every project's name.
func (c *Client) bootstrap(ctx context.Context) error {
	for _, role := range []string{globalObserver, "load-balancer_observer", "load-balancer_member", "load-balancer_admin"} {
		if _, err := c.create(ctx, "role", Object{"name": role}); err != nil {
			return err
		}
	}
	if err := c.makeUser(ctx, "octavia", c.access.ServicePassword, "service", "admin"); err != nil {
		return err
	}
	services := map[string][2]string{Keystone: {"identity", c.access.AuthURL}, Octavia: {"load-balancer", c.access.OctaviaURL}}
	if c.access.NeutronURL != "" {
		services[Neutron] = [2]string{"network", c.access.NeutronURL}
	}
	for name, service := range services {
		id, err := c.create(ctx, "service", Object{"name": name, "type": service[0]})
		if err != nil {
			return err
		}
		for _, kind := range []string{"public", "internal", "admin"} {
			endpoint := Object{"service_id": id, "interface": kind, "region_id": region, "url": service[1]}
			if _, err := c.create(ctx, "endpoint", endpoint); err != nil {
				return err
			}
		}
	}
	if err := c.makeUser(ctx, discoverer, c.access.DiscovererPassword, discovererProject, globalObserver); err != nil {
		return err
	}
	if err := c.showNames(ctx, defaultDomain); err != nil {
		return err
	}
	return c.makeApplicationCredential(ctx)
}

// makeUser makes a user with a role in a project of its own.
func (c *Client) makeUser(ctx context.Context, name, password, project, role string) error {
	projectID, err := c.CreateProject(ctx, defaultDomain, project)
	if err != nil {
		return err
	}
	userID, err := c.create(ctx, "user", Object{"name": name, "password": password, "domain_id": defaultDomain})
	if err != nil {
		return err
	}
	roleID, err := c.id(ctx, "role", role)
	if err != nil {
		return err
	}
	if _, err := c.identity(ctx, http.MethodPut, "/projects/"+projectID+"/users/"+userID+"/roles/"+roleID, nil); err != nil {
		return fmt.Errorf("give user %s the role %s in project %s: %w", name, role, project, err)
	}
	return nil
}

// showNames lets the discoverer read the names of a domain's projects.
func (c *Client) showNames(ctx context.Context, domainID string) error {
	userID, err := c.id(ctx, "user", discoverer)
	if err != nil {
		return err
	}
	roleID, err := c.id(ctx, "role", "reader")
	if err != nil {
		return err
	}
	path := "/OS-INHERIT/domains/" + domainID + "/users/" + userID + "/roles/" + roleID + "/inherited_to_projects"
	if _, err := c.identity(ctx, http.MethodPut, path, nil); err != nil {
		return fmt.Errorf("let %s read the projects of domain %s: %w", discoverer, domainID, err)
	}
	return nil
}

// makeApplicationCredential makes one as the discoverer, since nobody else can.
func (c *Client) makeApplicationCredential(ctx context.Context) error {
	userID, err := c.id(ctx, "user", discoverer)
	if err != nil {
		return err
	}
	provider, err := c.authenticate(ctx, gophercloud.AuthOptions{
		Username: discoverer, Password: c.access.DiscovererPassword, TenantName: discovererProject, DomainName: "Default",
	})
	if err != nil {
		return err
	}
	out, err := request(ctx, provider, http.MethodPost, c.access.AuthURL+"/users/"+userID+"/application_credentials", Object{
		"application_credential": Object{"name": discoverer, "roles": []Object{{"name": globalObserver}}},
	})
	if err != nil {
		return fmt.Errorf("make an application credential for %s: %w", discoverer, err)
	}
	made := inner(out, "application_credential")
	c.access.ApplicationCredentialID, c.access.ApplicationCredentialSecret = made.ID(), made.String("secret")
	return nil
}

// CreateDomain makes a domain whose projects the discoverer can read the names of,
// and returns its id.
func (c *Client) CreateDomain(ctx context.Context, name string) (string, error) {
	id, err := c.create(ctx, "domain", Object{"name": name})
	if err != nil {
		return "", err
	}
	return id, c.showNames(ctx, id)
}

// CreateProject makes a project in the domain with the given id, or in the default
// one where that is empty, and returns its id.
func (c *Client) CreateProject(ctx context.Context, domainID, name string) (string, error) {
	if domainID == "" {
		domainID = defaultDomain
	}
	return c.create(ctx, "project", Object{"name": name, "domain_id": domainID})
}

// ProjectID returns the id of the only project called name.
func (c *Client) ProjectID(ctx context.Context, name string) (string, error) {
	return c.id(ctx, "project", name)
}

// RenameProject renames the project with the given id.
func (c *Client) RenameProject(ctx context.Context, id, name string) error {
	if _, err := c.identity(ctx, http.MethodPatch, "/projects/"+id, Object{"project": Object{"name": name}}); err != nil {
		return fmt.Errorf("rename project %s to %s: %w", id, name, err)
	}
	return nil
}

// DeleteProject deletes the project with the given id; its load balancers stay.
func (c *Client) DeleteProject(ctx context.Context, id string) error {
	if _, err := c.identity(ctx, http.MethodDelete, "/projects/"+id, nil); err != nil {
		return fmt.Errorf("delete project %s: %w", id, err)
	}
	return nil
}

// create makes one of Keystone's objects and returns its id.
func (c *Client) create(ctx context.Context, kind string, o Object) (string, error) {
	out, err := c.identity(ctx, http.MethodPost, "/"+kind+"s", Object{kind: o})
	if err != nil {
		return "", fmt.Errorf("make %s %s: %w", kind, o.String("name"), err)
	}
	return inner(out, kind).ID(), nil
}

// id returns the id of the only one of Keystone's objects of that name.
func (c *Client) id(ctx context.Context, kind, name string) (string, error) {
	out, err := c.identity(ctx, http.MethodGet, "/"+kind+"s?name="+url.QueryEscape(name), nil)
	if err != nil {
		return "", fmt.Errorf("find %s %s: %w", kind, name, err)
	}
	found := list(out, kind+"s")
	if len(found) != 1 {
		return "", fmt.Errorf("find %s %s: there are %d", kind, name, len(found))
	}
	return found[0].ID(), nil
}

// inner is the object that an answer wraps.
func inner(answer Object, key string) Object {
	o, _ := answer[key].(map[string]any)
	return o
}

// list is the objects that an answer wraps.
func list(answer Object, key string) []Object {
	var all []Object
	items, _ := answer[key].([]any)
	for _, item := range items {
		o, _ := item.(map[string]any)
		all = append(all, o)
	}
	return all
}
