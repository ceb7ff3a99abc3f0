package script

import (
	"context"

	"github.com/projectcontour/gimbal/lab/openstack"
)

// network does what a story asks of Neutron.
func (s *story) network(ctx context.Context, c *Cloud, verb, kind, name string, fields openstack.Object) (err error) {
	project, address := s.id("project", fields.String("project")), fields.String("address")
	var id string
	switch verb + " " + kind {
	case "create port":
		id, err = c.CreatePort(ctx, project, address)
	case "create floatingip":
		id, err = c.CreateFloatingIP(ctx, project, s.id("port", fields.String("port")), address)
	case "delete floatingip":
		err = c.DeleteFloatingIP(ctx, s.id(kind, name))
	default:
		return usage("openstack CLOUD create port/NAME project=PROJECT address=ADDRESS, create floatingip/NAME project=PROJECT port=PORT address=ADDRESS, or delete floatingip/NAME")
	}
	s.remember(kind, name, id)
	return err
}
