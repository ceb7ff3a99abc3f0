package openstacktest

import (
	"net/http"
	"slices"
)

// neutron answers what is asked below /network/v2.0/.
func (c *Cloud) neutron(w http.ResponseWriter, r *http.Request, collection string) {
	var rows []row
	q := r.URL.Query()
	field := q.Get("fields")
	switch collection {
	case "floatingips":
		for _, f := range c.state.FloatingIPs {
			rows = append(rows, f.row(c))
		}
	case "ports":
		for _, lb := range c.state.LoadBalancers {
			for _, v := range append([]VIP{{Port: lb.Port}}, lb.AdditionalVIPs...) {
				rows = append(rows, row{v.Port, lb.Project, func() object { return object{field: v.Port} }})
			}
		}
	default:
		http.NotFound(w, r)
		return
	}
	rows = slices.DeleteFunc(rows, func(r row) bool {
		return c.state.OwnNetworkOnly && r.project != c.state.home().ID || q.Has("id") && !slices.Contains(q["id"], r.id)
	})
	q.Del("id")
	q.Del("fields")
	r = r.Clone(r.Context())
	r.URL.RawQuery = q.Encode()
	c.page(w, r, collection, rows)
}

func (f FloatingIP) row(c *Cloud) row {
	project := f.Project
	if project == "" {
		project = c.state.home().ID
	}
	return row{f.ID, project, func() object {
		return object{
			"id": f.ID, "floating_ip_address": f.Address, "port_id": orNull(f.Port), "fixed_ip_address": nil, "router_id": nil, "status": "ACTIVE",
			"floating_network_id": "33333333-0000-4000-8000-000000000000", "description": "", "tags": []string{},
			"project_id": project, "tenant_id": project, "revision_number": 1,
			"created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z", "port_details": nil,
		}
	}}
}
