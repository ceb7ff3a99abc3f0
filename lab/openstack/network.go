package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// The networks of an OpenStack with Neutron: one that all projects share, and one
// outside of the cloud. A router joins them.
const (
	sharedNetwork = "shared"
	publicNetwork = "public"
)

// makeNetworks makes the networks.
func (c *Client) makeNetworks(ctx context.Context) error {
	if _, err := c.makeNetwork(ctx, "198.51.100.0/24", Object{"name": publicNetwork, "router:external": true}); err != nil {
		return err
	}
	subnet, err := c.makeNetwork(ctx, "10.20.0.0/16", Object{"name": sharedNetwork, "shared": true})
	if err != nil {
		return err
	}
	outside, err := c.network(ctx, publicNetwork)
	if err != nil {
		return err
	}
	router, err := c.connect(ctx, "router", Object{"name": "router", "external_gateway_info": Object{"network_id": outside}})
	if err != nil {
		return err
	}
	if _, err := c.neutron(ctx, http.MethodPut, "/routers/"+router+"/add_router_interface", Object{"subnet_id": subnet}); err != nil {
		return fmt.Errorf("join the networks: %w", err)
	}
	return nil
}

// makeNetwork makes a network with a subnet, and returns the subnet's id.
func (c *Client) makeNetwork(ctx context.Context, cidr string, network Object) (string, error) {
	id, err := c.connect(ctx, "network", network)
	if err != nil {
		return "", err
	}
	return c.connect(ctx, "subnet", Object{"network_id": id, "ip_version": 4, "cidr": cidr})
}

// CreatePort makes a port of a project with an address in the network that all share,
// 10.20.0.0/16, and returns its id.
func (c *Client) CreatePort(ctx context.Context, projectID, address string) (string, error) {
	network, err := c.network(ctx, sharedNetwork)
	if err != nil {
		return "", err
	}
	return c.connect(ctx, "port", Object{
		"network_id": network, "project_id": projectID, "fixed_ips": []Object{{"ip_address": address}},
	})
}

// CreateFloatingIP makes a floating address of a project, of 198.51.100.0/24, that
// leads to a port, and returns its id.
func (c *Client) CreateFloatingIP(ctx context.Context, projectID, portID, address string) (string, error) {
	network, err := c.network(ctx, publicNetwork)
	if err != nil {
		return "", err
	}
	return c.connect(ctx, "floatingip", Object{
		"floating_network_id": network, "project_id": projectID, "port_id": portID, "floating_ip_address": address,
	})
}

// DeleteFloatingIP deletes the floating address with the given id.
func (c *Client) DeleteFloatingIP(ctx context.Context, id string) error {
	if _, err := c.neutron(ctx, http.MethodDelete, "/floatingips/"+id, nil); err != nil {
		return fmt.Errorf("delete floating address %s: %w", id, err)
	}
	return nil
}

// network returns the id of the network called name.
func (c *Client) network(ctx context.Context, name string) (string, error) {
	out, err := c.neutron(ctx, http.MethodGet, "/networks?name="+url.QueryEscape(name), nil)
	if err != nil {
		return "", fmt.Errorf("find network %s: %w", name, err)
	}
	found := list(out, "networks")
	if len(found) != 1 {
		return "", fmt.Errorf("find network %s: there are %d", name, len(found))
	}
	return found[0].ID(), nil
}

// connect makes one of Neutron's objects and returns its id.
func (c *Client) connect(ctx context.Context, kind string, o Object) (string, error) {
	out, err := c.neutron(ctx, http.MethodPost, "/"+kind+"s", Object{kind: o})
	if err != nil {
		return "", fmt.Errorf("make %s %s: %w", kind, o.String("name"), err)
	}
	return inner(out, kind).ID(), nil
}

// neutron does one of Neutron's requests as administrator; in and the result are JSON.
func (c *Client) neutron(ctx context.Context, method, path string, in any) (Object, error) {
	if c.access.NeutronURL == "" {
		return nil, fmt.Errorf("this OpenStack has no Neutron; start one with a network")
	}
	return c.do(ctx, method, c.access.NeutronURL+"/v2.0"+path, in)
}
