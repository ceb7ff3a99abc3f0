package openstacktest

import (
	"slices"
	"time"
)

// State is what a cloud has. The credential's own project is the first, and that is what
// an empty State has.
type State struct {
	Projects      []Project // those in which the user has a role
	LoadBalancers []*LoadBalancer
	FloatingIPs   []FloatingIP
	// OwnOnly says that the user is no global observer.
	OwnOnly bool
	// OwnNetworkOnly says that Neutron shows the user what is its own project's.
	OwnNetworkOnly bool
	// Forbidden says that Octavia's policy lets the user do nothing.
	Forbidden bool
	// PasswordChanged says that the user's password isn't Password any more.
	PasswordChanged bool
}

// Project is one of Keystone.
type Project struct{ ID, Name, Domain string }

// FloatingIP is one of Neutron. Its project is the credential's own where empty.
type FloatingIP struct{ ID, Address, Port, Project string }

// LoadBalancer is one of Octavia, with all that hangs below it. What is empty has the
// value of one that is well.
type LoadBalancer struct {
	ID, Name, Project       string
	Provisioning, Operating string
	Disabled                bool
	Created, Updated        time.Time // an hour ago, and null, where zero
	Address, Port           string
	AdditionalVIPs          []VIP
	Tags                    []string
	Listeners               []*Listener
	Pools                   []*Pool
}

// VIP is one of a load balancer's additional addresses.
type VIP struct{ Address, Port string }

// Listener is one of Octavia. Pool is the id of its default pool.
type Listener struct {
	ID, Protocol, Pool string
	Port               int
	Disabled           bool
}

// Pool is one of Octavia.
type Pool struct {
	ID, Name, Protocol, Operating string
	TLS, Disabled                 bool
	Members                       []*Member
}

// Member is one of Octavia.
type Member struct {
	ID, Address, Operating string
	Port, Weight           int
	Backup, Disabled       bool
}

// Touch records a change below a load balancer at a time: Octavia's times have whole seconds.
func (lb *LoadBalancer) Touch(at time.Time) { lb.Updated = at.UTC().Truncate(time.Second) }

// LoadBalancer returns the load balancer of an id, or nil.
func (s *State) LoadBalancer(id string) *LoadBalancer {
	if i := slices.IndexFunc(s.LoadBalancers, func(lb *LoadBalancer) bool { return lb.ID == id }); i >= 0 {
		return s.LoadBalancers[i]
	}
	return nil
}

// Pool returns the pool of an id, or nil.
func (s *State) Pool(id string) *Pool {
	for _, lb := range s.LoadBalancers {
		for _, p := range lb.Pools {
			if p.ID == id {
				return p
			}
		}
	}
	return nil
}

// Remove removes a load balancer.
func (s *State) Remove(id string) {
	s.LoadBalancers = slices.DeleteFunc(s.LoadBalancers, func(lb *LoadBalancer) bool { return lb.ID == id })
}

func (s *State) home() Project {
	if len(s.Projects) == 0 {
		return Project{ID: "0123456789abcdef0123456789abcdef", Name: "admin", Domain: "default"}
	}
	return s.Projects[0]
}
