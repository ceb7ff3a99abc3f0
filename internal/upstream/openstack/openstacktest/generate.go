package openstacktest

import "fmt"

// Size says how large a cloud is to be.
type Size struct {
	Projects      int
	LoadBalancers int // of a project
	Pools         int // of a load balancer, each with a listener
	Members       int // of a pool
}

// Generate returns a cloud of a size, the same one each time: projects team-0, team-1, …, whose load
// balancers listen on ports from 8000 on and have members at addresses of 10.0.0.0/8.
func Generate(size Size) State {
	var s State
	members := 0
	for p := range size.Projects {
		project := Project{ID: fmt.Sprintf("%032x", p+1), Name: fmt.Sprintf("team-%d", p), Domain: "default"}
		s.Projects = append(s.Projects, project)
		for range size.LoadBalancers {
			n := len(s.LoadBalancers)
			lb := &LoadBalancer{ID: ID("lb", n), Name: fmt.Sprintf("app-%d", n), Project: project.ID, Address: fmt.Sprintf("192.0.2.%d", 1+n%254)}
			for i := range size.Pools {
				pool := &Pool{ID: ID("pool", n*size.Pools+i), Name: fmt.Sprintf("pool-%d", i)}
				for range size.Members {
					pool.Members = append(pool.Members, &Member{
						ID: ID("member", members), Address: fmt.Sprintf("10.%d.%d.%d", members>>16&255, members>>8&255, members&255), Port: 8080, Weight: 1, Operating: "ONLINE",
					})
					members++
				}
				lb.Pools = append(lb.Pools, pool)
				lb.Listeners = append(lb.Listeners, &Listener{ID: ID("listener", n*size.Pools+i), Port: 8000 + i, Pool: pool.ID})
			}
			s.LoadBalancers = append(s.LoadBalancers, lb)
		}
	}
	return s
}

// ID returns the id of the nth object of a kind: a UUID.
func ID(kind string, n int) string {
	prefix := map[string]int{"lb": 0xa, "listener": 0xb, "pool": 0xc, "member": 0xd, "floatingip": 0xe}[kind]
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", prefix, n)
}
