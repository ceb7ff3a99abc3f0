package samples

import (
	_ "embed"
	"fmt"
	"net/netip"

	"github.com/projectcontour/gimbal/lab/member"
	"github.com/projectcontour/gimbal/lab/openstack"
)

//go:embed shop.yaml.tmpl
var shop string

// Shop is what a team has in OpenStack: a project with a load balancer.
type Shop struct {
	// Team is the project's name too.
	Team string
	// ID is the load balancer's once it is there.
	ID string
	// VIP is the process that stands for the load balancer itself, at its own address.
	VIP member.Member
	// Members are what it balances.
	Members []member.Member
}

// Shops are those of Teams, with addresses in a range: the first team's has number 10
// itself and 11 and 12 for its members, the second's 20 and so on.
func Shops(addresses netip.Prefix) []Shop {
	var all []Shop
	for i, team := range Teams() {
		at := func(last, port int) netip.AddrPort {
			a := addresses.Masked().Addr().As4()
			a[3] = byte(10*(i+1) + last)
			return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(port))
		}
		s := Shop{Team: team, VIP: member.Member{At: at(0, 80), Name: "shop", Namespace: team}}
		for n := 1; n <= 2; n++ {
			s.Members = append(s.Members, member.Member{At: at(n, 8080), Name: fmt.Sprintf("shop-%d", n), Namespace: team})
		}
		all = append(all, s)
	}
	return all
}

// LoadBalancer is the shop's, with all below it.
func (s Shop) LoadBalancer() openstack.Object {
	var members []openstack.Object
	for _, m := range s.Members {
		members = append(members, openstack.Object{"name": m.Name, "address": m.At.Addr(), "protocol_port": m.At.Port()})
	}
	return openstack.Object{
		"name": "shop", "vip_address": s.VIP.At.Addr(),
		"listeners": []openstack.Object{{
			"name": "http", "protocol": "HTTP", "protocol_port": s.VIP.At.Port(),
			"default_pool": openstack.Object{"name": "shop", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members},
		}},
	}
}

// Routes returns the manifests, for the central cluster, of routes to the shops of an
// upstream, whose load balancers are there.
func Routes(upstream string, shops []Shop) ([]byte, error) {
	return render(shop, map[string]any{"Upstream": upstream, "Shops": shops})
}
