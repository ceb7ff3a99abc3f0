package openstack_test

import (
	"context"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	lab "github.com/projectcontour/gimbal/lab/openstack"
)

// TestNetwork starts a Neutron, too: what a role sees there depends on Neutron's policy.
func TestNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("starts OpenStack, whose programs may have to be fetched first")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	o, err := lab.Start(ctx, lab.Options{Dir: t.TempDir(), Settings: lab.Settings{Network: lab.OwnNetwork}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Stop(); err != nil {
			t.Error(err)
		}
	})
	project, err := o.CreateProject(ctx, "", "team")
	if err != nil {
		t.Fatal(err)
	}
	port, err := o.CreatePort(ctx, project, "10.20.0.10")
	if err != nil {
		t.Fatal(err)
	}
	id, err := o.CreateLoadBalancer(ctx, project, lab.Object{"name": "web", "vip_port_id": port, "vip_address": "10.20.0.10"})
	if err != nil {
		t.Fatal(err)
	}
	if lb, err := o.Get(ctx, id, ""); err != nil || lb.String("vip_port_id") != port || lb.String("vip_address") != "10.20.0.10" {
		t.Errorf("the load balancer is %v, %v", lb, err)
	}
	floating, err := o.CreateFloatingIP(ctx, project, port, "198.51.100.10")
	if err != nil {
		t.Fatal(err)
	}
	user := discover(t, o.Client, o.CloudsYAML("os-1"))
	if got := user.floatingIPs(t); len(got) > 0 {
		t.Errorf("by the stock policy the discoverer sees %v", got)
	}
	if err := o.Configure(ctx, lab.Settings{Network: lab.GlobalNetwork}); err != nil {
		t.Fatal(err)
	}
	if got := user.floatingIPs(t); len(got) != 1 || got[0].PortID != port || got[0].FloatingIP != "198.51.100.10" {
		t.Errorf("the discoverer sees %v", got)
	}
	if err := o.DeleteFloatingIP(ctx, floating); err != nil {
		t.Fatal(err)
	}
	if got := user.floatingIPs(t); len(got) > 0 {
		t.Errorf("the discoverer sees a deleted address: %v", got)
	}
	if err := o.Configure(ctx, lab.Settings{}); err == nil {
		t.Error("Neutron can be taken away")
	}
}

func (d discoverer) floatingIPs(t *testing.T) []floatingips.FloatingIP {
	t.Helper()
	neutron, err := openstack.NewNetworkV2(d.provider, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := floatingips.List(neutron, nil).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := floatingips.ExtractFloatingIPs(pages)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
