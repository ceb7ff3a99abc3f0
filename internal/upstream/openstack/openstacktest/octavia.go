package openstacktest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// seconds is how Octavia writes a time.
const seconds = "2006-01-02T15:04:05"

// row is an object that can be listed.
type row struct {
	id, project string
	body        func() object
}

// octavia answers what is asked below /load-balancer/v2.0/lbaas/.
func (c *Cloud) octavia(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("x-openstack-request-id", "req-"+strconv.FormatInt(time.Now().UnixNano(), 16))
	if c.state.Forbidden {
		forbidden(w)
		return
	}
	parts := strings.Split(path, "/")
	switch {
	case len(parts) == 1 && slices.Contains([]string{"loadbalancers", "listeners", "pools"}, path):
		c.octaviaList(w, r, path, c.rows(path))
	case len(parts) == 2 && parts[0] == "loadbalancers":
		c.octaviaOne(w, parts[1])
	case len(parts) == 3 && parts[0] == "pools" && parts[2] == "members":
		for _, lb := range c.state.LoadBalancers {
			for _, p := range lb.Pools {
				if p.ID == parts[1] {
					c.memberList(w, r, lb, p)
					return
				}
			}
		}
		notFoundByPath(w, "Pool", parts[1])
	default:
		http.NotFound(w, r)
	}
}

func (c *Cloud) memberList(w http.ResponseWriter, r *http.Request, lb *LoadBalancer, p *Pool) {
	if c.state.OwnOnly && lb.Project != c.state.home().ID {
		forbidden(w)
		return
	}
	var rows []row
	for _, m := range p.Members {
		rows = append(rows, row{m.ID, lb.Project, func() object { return m.row(c, lb) }})
	}
	c.octaviaList(w, r, "members", rows)
}

func (c *Cloud) octaviaOne(w http.ResponseWriter, id string) {
	lb := c.state.LoadBalancer(id)
	switch {
	case lb == nil:
		octaviaError(w, http.StatusNotFound, "Load Balancer "+id+" not found.")
	case c.state.OwnOnly && lb.Project != c.state.home().ID:
		forbidden(w)
	default:
		write(w, http.StatusOK, object{"loadbalancer": lb.row(c)})
	}
}

// rows returns the objects of a collection in order of creation.
func (c *Cloud) rows(collection string) []row {
	var rows []row
	for _, lb := range c.state.LoadBalancers {
		switch collection {
		case "loadbalancers":
			rows = append(rows, row{lb.ID, lb.Project, func() object { return lb.row(c) }})
		case "listeners":
			for _, l := range lb.Listeners {
				rows = append(rows, row{l.ID, lb.Project, func() object { return l.row(c, lb) }})
			}
		case "pools":
			for _, p := range lb.Pools {
				rows = append(rows, row{p.ID, lb.Project, func() object { return p.row(c, lb) }})
			}
		}
	}
	return rows
}

// octaviaList writes one page of what the user may see.
func (c *Cloud) octaviaList(w http.ResponseWriter, r *http.Request, collection string, rows []row) {
	q := r.URL.Query()
	for key := range q {
		if !slices.Contains([]string{"limit", "marker", "project_id", "fields"}, key) {
			octaviaError(w, http.StatusBadRequest, "One or more arguments are either duplicate or invalid")
			return
		}
	}
	project := q.Get("project_id")
	if home := c.state.home().ID; c.state.OwnOnly {
		if project != "" && project != home {
			forbidden(w)
			return
		}
		project = home
	}
	if project != "" {
		rows = slices.DeleteFunc(rows, func(r row) bool { return r.project != project })
	}
	c.page(w, r, collection, rows)
}

// page writes one page of rows, as octavia/api/common/pagination.py makes them.
func (c *Cloud) page(w http.ResponseWriter, r *http.Request, collection string, rows []row) {
	q := r.URL.Query()
	if marker := q.Get("marker"); marker != "" {
		i := slices.IndexFunc(rows, func(r row) bool { return r.id == marker })
		if i < 0 {
			octaviaError(w, http.StatusBadRequest, "Supplied pagination marker '"+marker+"' is not valid.")
			return
		}
		rows = rows[i+1:]
	}
	limit := cmp.Or(c.PageLimit, 1000)
	if asked, err := strconv.Atoi(q.Get("limit")); err == nil && asked > 0 {
		limit = min(limit, asked)
	}
	page := rows[:min(limit, len(rows))]
	objects, links := make([]object, len(page)), []object{}
	for i, o := range page {
		objects[i] = o.body()
		if fields := q["fields"]; fields != nil {
			maps.DeleteFunc(objects[i], func(field string, _ any) bool { return !slices.Contains(fields, field) })
		}
	}
	at := c.URL() + r.URL.Path + "?limit=" + strconv.Itoa(limit)
	if len(page) > 0 && q.Has("marker") {
		links = append(links, object{"rel": "previous", "href": at + "&marker=" + page[0].id + "&page_reverse=True"})
	}
	if len(page) >= limit { // though there may be no more, and without the filters
		links = append(links, object{"rel": "next", "href": at + "&marker=" + page[len(page)-1].id})
	}
	write(w, http.StatusOK, object{collection: objects, collection + "_links": links})
}

func (lb *LoadBalancer) row(c *Cloud) object {
	return object{
		"id": lb.ID, "name": lb.Name, "description": "", "project_id": lb.Project, "tenant_id": lb.Project,
		"provisioning_status": cmp.Or(lb.Provisioning, "ACTIVE"), "operating_status": cmp.Or(lb.Operating, "ONLINE"), "admin_state_up": !lb.Disabled,
		"created_at": lb.created(c), "updated_at": lb.updated(), "vip_address": cmp.Or(lb.Address, "192.0.2.10"), "vip_port_id": orNull(lb.Port),
		"vip_subnet_id": "44444444-0000-4000-8000-000000000000", "vip_network_id": "55555555-0000-4000-8000-000000000000", "vip_qos_policy_id": nil,
		"vip_vnic_type": "normal", "vip_sg_ids": []string{}, "additional_vips": lb.additional(), "tags": append([]string{}, lb.Tags...),
		"listeners": ids(lb.Listeners, func(l *Listener) string { return l.ID }), "pools": ids(lb.Pools, func(p *Pool) string { return p.ID }),
		"provider": "amphora", "flavor_id": nil, "availability_zone": nil,
	}
}

func (lb *LoadBalancer) additional() []object {
	vips := []object{}
	for _, v := range lb.AdditionalVIPs {
		vips = append(vips, object{"ip_address": v.Address, "port_id": orNull(v.Port), "subnet_id": "44444444-0000-4000-8000-000000000001"})
	}
	return vips
}

func (lb *LoadBalancer) created(c *Cloud) string {
	if lb.Created.IsZero() {
		lb.Created = c.Now().Add(-time.Hour)
	}
	return lb.Created.Format(seconds)
}

func (lb *LoadBalancer) updated() any {
	if lb.Updated.IsZero() {
		return nil
	}
	return lb.Updated.Format(seconds)
}

func (l *Listener) row(c *Cloud, lb *LoadBalancer) object {
	protocol := cmp.Or(l.Protocol, "HTTP")
	return object{
		"id": l.ID, "name": "", "description": "", "provisioning_status": cmp.Or(lb.Provisioning, "ACTIVE"), "operating_status": "ONLINE",
		"admin_state_up": !l.Disabled, "protocol": protocol, "protocol_port": l.Port, "connection_limit": -1, "default_tls_container_ref": nil,
		"sni_container_refs": []string{}, "project_id": lb.Project, "tenant_id": lb.Project, "default_pool_id": orNull(l.Pool), "l7policies": []object{},
		"insert_headers": object{}, "created_at": lb.created(c), "updated_at": lb.updated(), "loadbalancers": []object{{"id": lb.ID}},
		"timeout_client_data": 50000, "timeout_member_connect": 5000, "timeout_member_data": 50000, "timeout_tcp_inspect": 0, "tags": []string{},
		"client_ca_tls_container_ref": nil, "client_authentication": "NONE", "client_crl_container_ref": nil, "allowed_cidrs": nil,
		"tls_ciphers": nil, "tls_versions": nil, "alpn_protocols": nil, "hsts_max_age": nil, "hsts_include_subdomains": false, "hsts_preload": false,
	}
}

func (p *Pool) row(c *Cloud, lb *LoadBalancer) object {
	listeners := slices.DeleteFunc(slices.Clone(lb.Listeners), func(l *Listener) bool { return l.Pool != p.ID })
	return object{
		"id": p.ID, "name": p.Name, "description": "", "provisioning_status": cmp.Or(lb.Provisioning, "ACTIVE"), "operating_status": cmp.Or(p.Operating, "ONLINE"),
		"admin_state_up": !p.Disabled, "protocol": cmp.Or(p.Protocol, "HTTP"), "lb_algorithm": "ROUND_ROBIN", "session_persistence": nil,
		"project_id": lb.Project, "tenant_id": lb.Project, "loadbalancers": []object{{"id": lb.ID}},
		"listeners":  ids(listeners, func(l *Listener) string { return l.ID }),
		"created_at": lb.created(c), "updated_at": lb.updated(), "healthmonitor_id": nil, "members": ids(p.Members, func(m *Member) string { return m.ID }),
		"tags": []string{}, "tls_container_ref": nil, "ca_tls_container_ref": nil, "crl_container_ref": nil, "tls_enabled": p.TLS,
		"tls_ciphers": nil, "tls_versions": nil, "alpn_protocols": nil,
	}
}

func (m *Member) row(c *Cloud, lb *LoadBalancer) object {
	return object{
		"id": m.ID, "name": "", "operating_status": cmp.Or(m.Operating, "NO_MONITOR"), "provisioning_status": cmp.Or(lb.Provisioning, "ACTIVE"),
		"admin_state_up": !m.Disabled, "address": m.Address, "protocol_port": m.Port, "weight": m.Weight, "backup": m.Backup, "subnet_id": nil,
		"project_id": lb.Project, "tenant_id": lb.Project, "created_at": lb.created(c), "updated_at": lb.updated(),
		"monitor_address": nil, "monitor_port": nil, "tags": []string{}, "vnic_type": "normal",
	}
}

func ids[T any](all []T, id func(T) string) []object {
	list := make([]object, len(all))
	for i, o := range all {
		list[i] = object{"id": id(o)}
	}
	return list
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func forbidden(w http.ResponseWriter) {
	octaviaError(w, http.StatusForbidden, "Policy does not allow this request to be performed.")
}

// octaviaError is how Octavia's controllers report an error.
func octaviaError(w http.ResponseWriter, status int, message string) {
	write(w, status, object{"faultcode": "Client", "faultstring": message, "debuginfo": nil})
}

// notFoundByPath is how Octavia reports an object that isn't there when it looks for the controller of what is below it.
func notFoundByPath(w http.ResponseWriter, kind, id string) {
	write(w, http.StatusNotFound, object{"code": http.StatusNotFound, "title": "Bad Request", "description": fmt.Sprintf("%s %s not found.", kind, id)})
}

// versions answers whoever asks for Octavia's versions.
func (c *Cloud) versions(w http.ResponseWriter) {
	version := func(id, status string) map[string]any {
		return map[string]any{
			"id": id, "status": status, "updated": "2025-01-01T00:00:00Z",
			"links": []any{map[string]any{"rel": "self", "href": c.URL() + "/load-balancer/v2"}},
		}
	}
	write(w, http.StatusOK, map[string]any{"versions": []any{version("v2.0", "SUPPORTED"), version("v2.27", "CURRENT")}})
}
