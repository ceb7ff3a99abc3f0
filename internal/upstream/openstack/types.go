package openstack

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"
)

// The objects of the APIs, as far as they are needed.
// https://docs.openstack.org/api-ref/load-balancer/v2/
// https://docs.openstack.org/api-ref/identity/v3/#get-available-project-scopes

type loadBalancer struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	ProjectID      string   `json:"project_id"`
	Provisioning   string   `json:"provisioning_status"`
	Operating      string   `json:"operating_status"`
	Enabled        bool     `json:"admin_state_up"`
	CreatedAt      string   `json:"created_at"`
	UpdatedAt      string   `json:"updated_at"`
	VIPAddress     string   `json:"vip_address"`
	VIPPort        string   `json:"vip_port_id"`
	AdditionalVIPs []vip    `json:"additional_vips"`
	Tags           []string `json:"tags"`
	Listeners      refs     `json:"listeners"`
	Pools          refs     `json:"pools"`
}

type vip struct {
	Address string `json:"ip_address"`
	Port    string `json:"port_id"`
}

func (lb loadBalancer) id() string { return lb.ID }

// sort orders what Octavia gives in no order, so that equal load balancers look alike.
func (lb loadBalancer) sort() {
	slices.SortFunc(lb.AdditionalVIPs, func(a, b vip) int { return strings.Compare(a.Address, b.Address) })
	slices.Sort(lb.Tags)
}

// standing is as much of a load balancer as says whether it has changed.
type standing struct {
	ID           string `json:"id"`
	Provisioning string `json:"provisioning_status"`
	CreatedAt    string `json:"created_at"`
	UpdatedAt    string `json:"updated_at"`
}

func (s standing) id() string { return s.ID }

func (s standing) loadBalancer() loadBalancer {
	return loadBalancer{ID: s.ID, Provisioning: s.Provisioning, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt}
}

// stable reports whether nothing is being changed.
func (lb loadBalancer) stable() bool {
	return lb.Provisioning == "ACTIVE" || lb.Provisioning == "ERROR"
}

// changed returns when the load balancer, or anything below it, was changed last; zero if that can't be told.
func (lb loadBalancer) changed() time.Time {
	at := lb.UpdatedAt
	if at == "" { // never since it was created
		at = lb.CreatedAt
	}
	for _, layout := range []string{"2006-01-02T15:04:05", time.RFC3339Nano} {
		if t, err := time.Parse(layout, at); err == nil {
			return t
		}
	}
	return time.Time{}
}

// vips returns the load balancer's addresses and their ports.
func (lb loadBalancer) vips() []vip {
	return append([]vip{{lb.VIPAddress, lb.VIPPort}}, lb.AdditionalVIPs...)
}

type listener struct {
	ID            string `json:"id"`
	Protocol      string `json:"protocol"`
	Port          int32  `json:"protocol_port"`
	Enabled       bool   `json:"admin_state_up"`
	DefaultPool   string `json:"default_pool_id"`
	LoadBalancers []ref  `json:"loadbalancers"`
	// Who may connect: clients of these ranges, all where there are none, and NONE,
	// OPTIONAL or MANDATORY for those with a certificate.
	AllowedCIDRs         []string `json:"allowed_cidrs"`
	ClientAuthentication string   `json:"client_authentication"`
}

func (l listener) id() string { return l.ID }

type ref struct {
	ID string `json:"id"`
}

type pool struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Protocol      string `json:"protocol"`
	TLS           bool   `json:"tls_enabled"`
	Operating     string `json:"operating_status"`
	Enabled       bool   `json:"admin_state_up"`
	LoadBalancers []ref  `json:"loadbalancers"`
	Members       refs   `json:"members"`
}

func (p pool) id() string { return p.ID }

// refs is what is kept of a list of references: their number, and the sum of their ids'
// hashes. It tells whether others are the same, in any order.
type refs struct {
	N   int
	Sum uint64
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *refs) UnmarshalJSON(b []byte) error {
	var list []ref
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*r = refs{}
	for _, one := range list {
		r.add(one.ID)
	}
	return nil
}

func (r *refs) add(id string) {
	h := fnv.New64a()
	h.Write([]byte(id))
	r.N++
	r.Sum += h.Sum64()
}

// covers reports whether the references are those to objects.
func covers[T object](r refs, objects []T) bool {
	var have refs
	for _, o := range objects {
		have.add(o.id())
	}
	return have == r
}

type member struct {
	ID        string `json:"id"`
	Address   string `json:"address"`
	Port      int32  `json:"protocol_port"`
	Weight    *int32 `json:"weight"`
	Backup    bool   `json:"backup"`
	Enabled   bool   `json:"admin_state_up"`
	Operating string `json:"operating_status"`
}

func (m member) id() string { return m.ID }

// share returns the member's weight where it isn't 1, as it mostly is.
func (m member) share() *int32 {
	if ptr.Deref(m.Weight, 1) == 1 {
		return nil
	}
	return m.Weight
}

type project struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain string `json:"domain_id"`
}

func (p project) id() string { return p.ID }

// own returns the annotations of the project's Services.
func (p project) own() map[string]string {
	return map[string]string{AnnotationProject: fmt.Sprintf("%.64s/%s", p.Domain, p.ID)}
}

type floatingIP struct {
	ID      string `json:"id"`
	Address string `json:"floating_ip_address"`
	Port    string `json:"port_id"`
	Project string `json:"project_id"`
}

func (f floatingIP) id() string { return f.ID }

type port struct {
	ID string `json:"id"`
}
