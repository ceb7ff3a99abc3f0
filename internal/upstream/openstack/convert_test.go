package openstack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// shop is a load balancer with these listeners and pools.
func shop(listeners []listener, pools ...*poolTree) *tree {
	t := &tree{loadBalancer: loadBalancer{ID: "a", Name: "Shop", Enabled: true, Operating: "ONLINE"}, place: place{namespace: "team", own: map[string]string{AnnotationProject: "d/p"}}, listeners: listeners, pools: pools}
	for _, p := range pools {
		p.listened = slices.ContainsFunc(listeners, func(l listener) bool { return l.DefaultPool == p.ID })
	}
	return t
}

func listens(protocol string, port int32, pool string) listener {
	return listener{ID: fmt.Sprint("l", port), Protocol: protocol, Port: port, Enabled: true, DefaultPool: pool}
}

func pooled(id, protocol string, members ...member) *poolTree {
	return &poolTree{pool: pool{ID: id, Name: "Pool " + id, Protocol: protocol, Enabled: true}, members: members}
}

// up is a member at 10.0.0.n:8080 that is well.
func up(n int) member {
	return member{ID: fmt.Sprintf("m%03d", n), Address: fmt.Sprintf("10.0.0.%d", n), Port: 8080, Weight: new(int32(1)), Enabled: true, Operating: "ONLINE"}
}

func upWith(n int, f func(*member)) member {
	m := up(n)
	f(&m)
	return m
}

// summary writes what a Service says in short: its ports, and its endpoints as address:port, with
// a question mark where they aren't ready, an exclamation mark where they aren't serving either, a
// dash where they are terminating, and a weight.
func summary(s *mirror.Service) string {
	var parts []string
	if s.Refused {
		parts = append(parts, "refused")
	}
	for _, p := range s.Ports {
		part := fmt.Sprintf("%s=%d/%s", p.Name, p.Number, p.Protocol)
		if p.AppProtocol != "" {
			part += "/" + p.AppProtocol
		}
		parts = append(parts, part)
	}
	for _, es := range s.Slices {
		for _, e := range es.Endpoints {
			part := e.Addresses[0]
			for _, p := range es.Ports {
				part += fmt.Sprintf(":%d(%s)", p.Number, p.Name)
			}
			if !e.Ready {
				part += map[bool]string{true: "?", false: "!"}[e.Serving]
			}
			if e.Terminating {
				part += "-"
			}
			if e.Weight != nil && *e.Weight != 1 {
				part += fmt.Sprintf("*%d", *e.Weight)
			}
			parts = append(parts, part)
		}
	}
	for _, r := range s.Refusals {
		parts = append(parts, string(r.Reason))
	}
	return strings.Join(parts, " ")
}

func TestServices(t *testing.T) {
	web := []listener{listens("HTTP", 80, "p")}
	for name, tc := range map[string]struct {
		tree *tree
		vip  bool
		want map[string]string // by the Service's name
	}{
		"ordinary":              {tree: shop(web, pooled("p", "HTTP", up(1), up(2))), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80) 10.0.0.2:8080(port-80)"}},
		"no listener":           {tree: shop(nil), want: map[string]string{"lb-a": ""}},
		"no members":            {tree: shop(web, pooled("p", "HTTP")), want: map[string]string{"lb-a": "port-80=80/TCP"}},
		"disabled":              {tree: changedTree(shop(web, pooled("p", "HTTP", up(1)), pooled("q", "HTTP", up(2))), func(t *tree) { t.Enabled = false }), want: map[string]string{}},
		"disabled, VIP":         {tree: changedTree(shop(web), func(t *tree) { t.Enabled = false }), vip: true, want: map[string]string{}},
		"disabled listener":     {tree: changedTree(shop(append(web, listens("HTTP", 81, "q")), pooled("p", "HTTP", up(1)), pooled("q", "HTTP", up(2))), func(t *tree) { t.listeners[1].Enabled = false }), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80)"}},
		"disabled pool":         {tree: changedTree(shop(web, pooled("p", "HTTP", up(1))), func(t *tree) { t.pools[0].Enabled = false }), want: map[string]string{"lb-a": "port-80=80/TCP"}},
		"pool of two listeners": {tree: shop([]listener{listens("HTTP", 80, "p"), listens("HTTP", 81, "p")}, pooled("p", "HTTP", up(1))), want: map[string]string{"lb-a": "port-80=80/TCP port-81=81/TCP 10.0.0.1:8080(port-80) 10.0.0.1:8080(port-81)"}},
		"pool without listener": {tree: shop(web, pooled("p", "HTTP", up(1)), pooled("q", "HTTP", up(2))), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80)", "pool-q": "port-80=80/TCP 10.0.0.2:8080(port-80)"}},
		"UDP without listener":  {tree: shop(nil, pooled("q", "UDP", up(2))), want: map[string]string{"lb-a": "", "pool-q": "port-80=80/UDP 10.0.0.2:8080(port-80)"}},
		"TLS without listener":  {tree: shop(nil, changedPool(pooled("q", "HTTP", up(2)), func(p *poolTree) { p.TLS = true })), want: map[string]string{"lb-a": "", "pool-q": "port-443=443/TCP/https 10.0.0.2:8080(port-443)"}},
		"HTTPS, no listener":    {tree: shop(nil, pooled("q", "HTTPS", up(2))), want: map[string]string{"lb-a": "", "pool-q": "port-443=443/TCP/https 10.0.0.2:8080(port-443)"}},
		"PROXY, no listener":    {tree: shop(nil, pooled("q", "PROXYV2", up(2))), want: map[string]string{"lb-a": "", "pool-q": "refused Unsupported"}},
		"disabled, no listener": {tree: shop(nil, changedPool(pooled("q", "HTTP", up(2)), func(p *poolTree) { p.Enabled = false })), want: map[string]string{"lb-a": ""}},
		"L7 policies alone":     {tree: shop([]listener{listens("HTTP", 80, "")}, pooled("q", "HTTP", up(2))), want: map[string]string{"lb-a": "port-80=80/TCP", "pool-q": "port-80=80/TCP 10.0.0.2:8080(port-80)"}},
		"TLS to the members":    {tree: shop([]listener{listens("HTTP", 80, "p")}, changedPool(pooled("p", "HTTP", up(1)), func(p *poolTree) { p.TLS = true })), want: map[string]string{"lb-a": "port-80=80/TCP/https 10.0.0.1:8080(port-80)"}},
		"HTTPS":                 {tree: shop([]listener{listens("HTTPS", 443, "p")}, pooled("p", "HTTPS", up(1))), want: map[string]string{"lb-a": "port-443=443/TCP/https 10.0.0.1:8080(port-443)"}},
		"TERMINATED_HTTPS":      {tree: shop([]listener{listens("TERMINATED_HTTPS", 443, "p")}, pooled("p", "HTTP", up(1))), want: map[string]string{"lb-a": "port-443=443/TCP 10.0.0.1:8080(port-443)"}},
		"TERMINATED_HTTPS, VIP": {tree: shop([]listener{listens("TERMINATED_HTTPS", 443, "p"), listens("HTTP", 80, "p")}), vip: true, want: map[string]string{"lb-a": "port-80=80/TCP port-443=443/TCP/https"}},
		"HTTPS, VIP":            {tree: shop([]listener{listens("HTTPS", 443, "p")}), vip: true, want: map[string]string{"lb-a": "port-443=443/TCP/https"}},
		"PROXY pool, VIP":       {tree: shop(web, pooled("p", "PROXY")), vip: true, want: map[string]string{"lb-a": "port-80=80/TCP"}},
		"TCP, UDP, SCTP": {tree: shop([]listener{listens("TCP", 53, "p"), listens("UDP", 53, "q"), listens("SCTP", 53, "r")}, pooled("p", "TCP", up(1)), pooled("q", "UDP", up(2)), pooled("r", "SCTP", up(3))),
			want: map[string]string{"lb-a": "port-53=53/TCP port-53-sctp=53/SCTP port-53-udp=53/UDP 10.0.0.1:8080(port-53) 10.0.0.3:8080(port-53-sctp) 10.0.0.2:8080(port-53-udp)"}},
		"PROXY":           {tree: shop([]listener{listens("HTTP", 80, "p"), listens("HTTP", 81, "q")}, pooled("p", "PROXY", up(1)), pooled("q", "HTTP", up(2))), want: map[string]string{"lb-a": "port-81=81/TCP 10.0.0.2:8080(port-81) Unsupported"}},
		"PROMETHEUS":      {tree: shop([]listener{listens("PROMETHEUS", 9100, "")}), want: map[string]string{"lb-a": "Unsupported"}},
		"PROMETHEUS, VIP": {tree: shop([]listener{listens("PROMETHEUS", 9100, "")}), vip: true, want: map[string]string{"lb-a": "Unsupported"}},
		"ports in order": {tree: shop([]listener{listens("HTTP", 90, "p"), listens("UDP", 80, "q"), listens("HTTP", 9, "p"), listens("TCP", 80, "p")}, pooled("p", "HTTP"), pooled("q", "UDP")),
			want: map[string]string{"lb-a": "port-9=9/TCP port-80=80/TCP port-80-udp=80/UDP port-90=90/TCP"}},
		"ports in order, VIP": {tree: shop([]listener{listens("HTTP", 90, "p"), listens("UDP", 80, "q"), listens("TCP", 80, "p")}), vip: true,
			want: map[string]string{"lb-a": "port-80=80/TCP port-80-udp=80/UDP port-90=90/TCP"}},
		"unknown protocol": {tree: shop([]listener{listens("QUIC", 443, "p"), listens("HTTP", 80, "p")}, pooled("p", "HTTP", up(1))), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80) Unsupported"}},
		"two families": {tree: shop(web, pooled("p", "TCP", up(1), upWith(2, func(m *member) { m.Address = "2001:db8::1" }), upWith(3, func(m *member) { m.Address = "2001:DB8::0:2" }))),
			want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80) 2001:db8::1:8080(port-80) 2001:db8::2:8080(port-80)"}},
		"one address in two spellings": {tree: shop(web, pooled("p", "TCP", upWith(1, func(m *member) { m.Address, m.Operating = "2001:db8::1", "ERROR" }), upWith(2, func(m *member) { m.Address = "2001:DB8:0::1" }))),
			want: map[string]string{"lb-a": "port-80=80/TCP 2001:db8::1:8080(port-80)"}},
		"members of two ports": {tree: shop(web, pooled("p", "HTTP", up(1), upWith(2, func(m *member) { m.Port = 9090 }))), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80) 10.0.0.2:9090(port-80)"}},
		"one address twice":    {tree: shop(web, pooled("p", "HTTP", up(1), upWith(2, func(m *member) { m.Address, m.Port = "10.0.0.1", 9090 }))), want: map[string]string{"lb-a": "port-80=80/TCP 10.0.0.1:8080(port-80) 10.0.0.1:9090(port-80)"}},
		"no address":           {tree: shop(web, pooled("p", "HTTP", upWith(1, func(m *member) { m.Address = "x" }))), want: map[string]string{"lb-a": "port-80=80/TCP x:8080(port-80)"}},
		"VIP": {tree: changedTree(shop(web), func(t *tree) { t.addresses = []string{"192.0.2.1", "2001:db8::1"} }), vip: true,
			want: map[string]string{"lb-a": "port-80=80/TCP 192.0.2.1:80(port-80) 2001:db8::1:80(port-80)"}},
		"VIP without ports": {tree: changedTree(shop(nil), func(t *tree) { t.addresses = []string{"192.0.2.1"} }), vip: true, want: map[string]string{"lb-a": ""}},
		"refused":           {tree: changedTree(shop(web), func(t *tree) { t.place.reason = ReasonAmbiguousProject }), want: map[string]string{"lb-a": "refused AmbiguousProject"}},
	} {
		t.Run(name, func(t *testing.T) {
			addressing := v1alpha1.AddressingMember
			if tc.vip {
				addressing = v1alpha1.AddressingVIP
			}
			got := tc.tree.services(addressing)
			if len(got) != len(tc.want) {
				t.Errorf("got %s", text(got))
			}
			for _, s := range got {
				if want, ok := tc.want[s.Name]; !ok || summary(s) != want || s.Namespace != "team" {
					t.Errorf("%s: got %s, want %s", s.Key, summary(s), want)
				}
			}
		})
	}
}

// What a load balancer enforces and the tier can't, so that without it anybody would get in.
func TestRestrictedListeners(t *testing.T) {
	restricted := func(f func(*listener)) *tree {
		l := listens("TERMINATED_HTTPS", 443, "p")
		f(&l)
		return shop([]listener{l, listens("HTTP", 80, "q")}, pooled("p", "HTTP", up(1)), pooled("q", "HTTP", up(2)))
	}
	const (
		both    = "port-80=80/TCP port-443=443/TCP 10.0.0.1:8080(port-443) 10.0.0.2:8080(port-80)"
		leftOut = "port-80=80/TCP 10.0.0.2:8080(port-80) AccessControl"
		seen    = "port-80=80/TCP port-443=443/TCP/https"
	)
	for name, tc := range map[string]struct {
		change func(*listener)
		want   string
		told   string // in the message
	}{
		"no restriction":          {func(*listener) {}, both, ""},
		"an empty list":           {func(l *listener) { l.AllowedCIDRs = []string{} }, both, ""},
		"everybody":               {func(l *listener) { l.AllowedCIDRs = []string{"10.0.0.0/8", "0.0.0.0/0"} }, both, ""},
		"everybody by IPv6":       {func(l *listener) { l.AllowedCIDRs = []string{"::/0"} }, both, ""},
		"one network":             {func(l *listener) { l.AllowedCIDRs = []string{"10.0.0.0/8"} }, leftOut, "allowed_cidrs"},
		"what isn't a range":      {func(l *listener) { l.AllowedCIDRs = []string{"x"} }, leftOut, "allowed_cidrs"},
		"certificates":            {func(l *listener) { l.ClientAuthentication = "MANDATORY" }, leftOut, "client_authentication"},
		"certificates or none":    {func(l *listener) { l.ClientAuthentication = "OPTIONAL" }, both, ""},
		"no certificates":         {func(l *listener) { l.ClientAuthentication = "NONE" }, both, ""},
		"both":                    {func(l *listener) { l.AllowedCIDRs, l.ClientAuthentication = []string{"10.0.0.0/8"}, "MANDATORY" }, leftOut, "allowed_cidrs and client_authentication"},
		"disabled and restricted": {func(l *listener) { l.Enabled, l.AllowedCIDRs = false, []string{"10.0.0.0/8"} }, "port-80=80/TCP 10.0.0.2:8080(port-80)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := restricted(tc.change).services(v1alpha1.AddressingMember)[0]
			if got := summary(s); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if told := text(s.Refusals); tc.told != "" && (!strings.Contains(told, tc.told) || !strings.Contains(told, "443") || !strings.Contains(told, "VIP")) {
				t.Errorf("told %s", told)
			}
			// The load balancer goes on to enforce it where requests pass it.
			if s := restricted(tc.change).services(v1alpha1.AddressingVIP)[0]; strings.Contains(name, "disabled") == (summary(s) == seen) {
				t.Errorf("VIP: got %s", summary(s))
			}
		})
	}
}

func changedTree(t *tree, f func(*tree)) *tree {
	f(t)
	return t
}

func changedPool(p *poolTree, f func(*poolTree)) *poolTree {
	f(p)
	return p
}

func TestMembers(t *testing.T) {
	operating := func(status string) func(*member) { return func(m *member) { m.Operating = status } }
	weight := func(w int32) func(*member) { return func(m *member) { m.Weight = &w } }
	for name, tc := range map[string]struct {
		members []member
		want    string // of the endpoints, without the ports
	}{
		"ONLINE":                  {[]member{upWith(1, operating("ONLINE"))}, "10.0.0.1"},
		"NO_MONITOR":              {[]member{upWith(1, operating("NO_MONITOR"))}, "10.0.0.1"},
		"ERROR":                   {[]member{upWith(1, operating("ERROR"))}, "10.0.0.1!"},
		"OFFLINE":                 {[]member{upWith(1, operating("OFFLINE"))}, "10.0.0.1!"},
		"DEGRADED":                {[]member{upWith(1, operating("DEGRADED"))}, "10.0.0.1!"},
		"DRAINING":                {[]member{upWith(1, operating("DRAINING"))}, "10.0.0.1?-"},
		"no status":               {[]member{upWith(1, operating(""))}, "10.0.0.1!"},
		"disabled":                {[]member{upWith(1, func(m *member) { m.Enabled = false })}, ""},
		"weight":                  {[]member{upWith(1, weight(5))}, "10.0.0.1*5"},
		"weight 0":                {[]member{upWith(1, weight(0))}, "10.0.0.1?-*0"},
		"weight 0 and down":       {[]member{upWith(1, func(m *member) { weight(0)(m); m.Operating = "ERROR" })}, "10.0.0.1!-*0"},
		"no weight":               {[]member{upWith(1, func(m *member) { m.Weight = nil })}, "10.0.0.1"},
		"backup":                  {[]member{up(1), upWith(2, func(m *member) { m.Backup = true })}, "10.0.0.1 10.0.0.2!"},
		"backup steps in":         {[]member{upWith(1, operating("ERROR")), upWith(2, func(m *member) { m.Backup = true })}, "10.0.0.1! 10.0.0.2"},
		"backup for the drained":  {[]member{upWith(1, weight(0)), upWith(2, func(m *member) { m.Backup = true })}, "10.0.0.1?-*0 10.0.0.2"},
		"backup for the disabled": {[]member{upWith(1, func(m *member) { m.Enabled = false }), upWith(2, func(m *member) { m.Backup = true })}, "10.0.0.2"},
		"backup is down":          {[]member{upWith(1, operating("ERROR")), upWith(2, func(m *member) { m.Backup, m.Operating = true, "ERROR" })}, "10.0.0.1! 10.0.0.2!"},
		"spare and drained":       {[]member{up(1), upWith(2, func(m *member) { weight(0)(m); m.Backup = true })}, "10.0.0.1 10.0.0.2!*0"},
		"backups alone":           {[]member{upWith(1, func(m *member) { m.Backup = true }), upWith(2, func(m *member) { m.Backup = true })}, "10.0.0.1 10.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop([]listener{listens("HTTP", 80, "p")}, pooled("p", "HTTP", tc.members...)).services("")[0]
			got := strings.TrimPrefix(strings.ReplaceAll(summary(s), ":8080(port-80)", ""), "port-80=80/TCP")
			if strings.TrimSpace(got) != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestManyMembers(t *testing.T) {
	p := pooled("p", "HTTP")
	for i := range 250 {
		p.members = append(p.members, up(i))
	}
	s := shop([]listener{listens("HTTP", 80, "p")}, p).services("")[0]
	names, n := map[string]bool{}, 0
	for _, es := range s.Slices {
		if len(es.Endpoints) == 0 || len(es.Endpoints) > 100 || names[es.Name] || len(es.Ports) != 1 || es.Ports[0].Number != 8080 {
			t.Errorf("slice %s of %d endpoints, ports %v", es.Name, len(es.Endpoints), es.Ports)
		}
		names[es.Name] = true
		n += len(es.Endpoints)
	}
	if n != 250 {
		t.Errorf("%d endpoints", n)
	}
}

func TestWants(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*tree)
		want   bool
	}{
		"ordinary":          {func(*tree) {}, true},
		"disabled":          {func(t *tree) { t.Enabled = false }, false},
		"disabled pool":     {func(t *tree) { t.pools[0].Enabled = false }, false},
		"empty":             {func(t *tree) { t.pools[0].Members = refs{} }, false},
		"disabled listener": {func(t *tree) { t.listeners[0].Enabled = false }, false},
		"no listener":       {func(t *tree) { t.listeners, t.pools[0].listened = nil, false }, true},
		"another's pool":    {func(t *tree) { t.listeners = nil }, false},
	} {
		l := shop([]listener{listens("HTTP", 80, "p")}, pooled("p", "HTTP"))
		l.pools[0].Members = refs{N: 1}
		tc.change(l)
		if got := l.wants(l.pools[0], v1alpha1.AddressingMember); got != tc.want || l.wants(l.pools[0], v1alpha1.AddressingVIP) {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestLabels(t *testing.T) {
	l := shop(nil, pooled("q", "HTTP"))
	l.Tags = []string{"tier=web", "gimbal", "b=2=3", "b=1", "empty=", "=x"}
	got := l.services("")
	want := map[string]string{"tier": "web", "b": "1", "empty": "", "": "x"}
	for _, s := range got {
		if text(s.Labels) != text(want) {
			t.Errorf("%s: labels %v", s.Name, s.Labels)
		}
		if s.OwnLabels[LabelLoadBalancer] != "Shop" || s.OwnAnnotations[AnnotationProject] != "d/p" {
			t.Errorf("%s: own %v %v", s.Name, s.OwnLabels, s.OwnAnnotations)
		}
	}
	if got[0].OwnLabels[LabelPool] != "" || got[1].OwnLabels[LabelPool] != "Pool-q" {
		t.Errorf("own labels %v, %v", got[0].OwnLabels, got[1].OwnLabels)
	}
	if l.Tags[0] != "tier=web" || l.Tags[3] != "b=1" {
		t.Errorf("tags became %v", l.Tags)
	}
}

func TestLabelValue(t *testing.T) {
	for name, want := range map[string]string{
		"":                                   "",
		"web":                                "web",
		"My Shop (prod)":                     "My-Shop-prod",
		"My Shop (prod)_Ünïcode.v2 — 1/2":    "My-Shop-prod-_-n-code.v2-1-2",
		"--web--":                            "web",
		"_.web._":                            "web",
		"öäü":                                "",
		"web\x00\xff":                        "web",
		strings.Repeat("a", 64):              strings.Repeat("a", 63),
		strings.Repeat("a", 62) + "-b":       strings.Repeat("a", 62),
		strings.Repeat("ä", 500) + "b":       "b",
		strings.Repeat("a-", 10_000):         strings.Repeat("a-", 31) + "a",
		"<script>alert(1)</script>":          "script-alert-1-script",
		"gimbal.projectcontour.io/backend=x": "gimbal.projectcontour.io-backend-x",
	} {
		got := labelValue(name)
		if got != want || len(validation.IsValidLabelValue(got)) > 0 {
			t.Errorf("%.80q: got %q, want %q", name, got, want)
		}
	}
}

// Of each family one address is published, lest a load balancer counts for several.
func TestAddressesOf(t *testing.T) {
	lb := loadBalancer{VIPAddress: "10.0.0.1", VIPPort: "p1", AdditionalVIPs: []vip{{"10.0.0.2", "p2"}, {"10.0.0.1", ""}, {"", "p3"}}}
	dual := loadBalancer{VIPAddress: "10.0.0.1", VIPPort: "p1", AdditionalVIPs: []vip{{"2001:DB8::5", "p2"}, {"2001:db8::4", "p3"}, {"10.0.0.0", ""}}}
	for name, tc := range map[string]struct {
		lb       loadBalancer
		floating map[string]string
		want     []string
	}{
		"none":                       {lb, nil, []string{"10.0.0.1"}},
		"of the first":               {lb, map[string]string{"p1": "203.0.113.1"}, []string{"203.0.113.1"}},
		"of all":                     {lb, map[string]string{"p1": "203.0.113.1", "p2": "203.0.113.2", "p3": "203.0.113.1"}, []string{"203.0.113.1"}},
		"another's":                  {lb, map[string]string{"p9": "203.0.113.1"}, []string{"10.0.0.1"}},
		"no address":                 {lb, map[string]string{"p1": ""}, []string{"10.0.0.1"}},
		"of an additional":           {lb, map[string]string{"p2": "203.0.113.2"}, []string{"203.0.113.2"}},
		"two families":               {dual, nil, []string{"10.0.0.1", "2001:db8::4"}},
		"two families, one floating": {dual, map[string]string{"p1": "203.0.113.1"}, []string{"203.0.113.1", "2001:db8::4"}},
		"IPv6 alone":                 {loadBalancer{VIPAddress: "2001:DB8:0::1"}, nil, []string{"2001:db8::1"}},
		"one in two spellings":       {loadBalancer{VIPAddress: "2001:db8::1", AdditionalVIPs: []vip{{"2001:DB8::0:1", ""}}}, nil, []string{"2001:db8::1"}},
		"not an address":             {loadBalancer{VIPAddress: "x"}, nil, []string{"x"}},
		"nothing":                    {loadBalancer{}, nil, nil},
	} {
		if got := addressesOf(tc.lb, tc.floating); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// Listeners that Octavia wouldn't have beside each other give slices of one name.
func TestServicesDontDependOnChance(t *testing.T) {
	make := func() string {
		var pools []*poolTree
		var listeners []listener
		for i, protocol := range []string{"HTTP", "TCP", "HTTPS"} {
			p := pooled(fmt.Sprint("p", i), "TCP")
			for n := range 20 {
				p.members = append(p.members, upWith(20*i+n, func(m *member) { m.Port = int32(8000 + n) }))
			}
			pools, listeners = append(pools, p), append(listeners, listens(protocol, 80, p.ID))
		}
		return text(shop(listeners, pools...).services(""))
	}
	first := make()
	for range 50 {
		if make() != first {
			t.Fatal("the same load balancer gave something else")
		}
	}
}
