package openstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// direct carries requests to a handler without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	recorded := httptest.NewRecorder()
	d.ServeHTTP(recorded, r)
	return recorded.Result(), nil
}

// without returns a Source that reads a cloud without a network.
func without(o Options, c *openstacktest.Cloud) *Source {
	s := New(o)
	s.session.client.Transport = counting{upstream.Limit(direct{c}), &s.session.requests}
	return s
}

// bytes are fuzz bytes, of which values are made.
type fuzzBytes struct{ left []byte }

func (b *fuzzBytes) n(limit int) int {
	if len(b.left) == 0 {
		return 0
	}
	v := int(b.left[0])
	b.left = b.left[1:]
	return v % limit
}

func (b *fuzzBytes) pick(options ...string) string { return options[b.n(len(options))] }

// rules are those of an upstream that may have few addresses.
func rules(t testing.TB) mirror.Rules {
	policy, err := mirror.NewAddressPolicy([]string{"10.0.0.0/8", "fd00::/8"}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
	if err != nil {
		t.Fatal(err)
	}
	return mirror.Rules{Backend: "os", Addresses: policy}
}

// checkMirrored checks what the central cluster would hold for a Service.
func checkMirrored(t *testing.T, r mirror.Rules, s *mirror.Service) mirror.Objects {
	t.Helper()
	o, refused := r.Desired(s)
	if o.Service == nil {
		if len(o.Slices) > 0 || len(refused) == 0 && !s.Unsettled {
			t.Errorf("%v is left out in silence, or its slices aren't", s.Key)
		}
		return o
	}
	if len(validation.IsDNS1035Label(o.Service.Name))+len(validation.IsDNS1123Label(o.Service.Namespace)) > 0 {
		t.Errorf("name %q in %q", o.Service.Name, o.Service.Namespace)
	}
	for k, v := range o.Service.Labels {
		if len(validation.IsQualifiedName(k))+len(validation.IsValidLabelValue(v)) > 0 {
			t.Errorf("label %q=%q", k, v)
		}
	}
	for _, es := range o.Slices {
		if len(validation.IsDNS1123Subdomain(es.Name)) > 0 || es.AddressType == discoveryv1.AddressTypeFQDN || len(es.Ports) == 0 || len(es.Endpoints) > 100 {
			t.Errorf("slice %q of %d endpoints and %d ports", es.Name, len(es.Endpoints), len(es.Ports))
		}
		for _, p := range es.Ports {
			named := func(i int) bool {
				sp := o.Service.Spec.Ports[i]
				return sp.Name == *p.Name && sp.Protocol == *p.Protocol
			}
			if *p.Port < 1 || *p.Port > 65535 || !slices.ContainsFunc(indices(len(o.Service.Spec.Ports)), named) {
				t.Errorf("slice %q has the port %s", es.Name, text(p))
			}
		}
		for _, e := range es.Endpoints {
			for _, a := range e.Addresses {
				if reason, err := r.Addresses.Check(a, es.AddressType); reason != "" {
					t.Errorf("address %q: %v", a, err)
				}
			}
		}
	}
	return o
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// FuzzAnswer gives arbitrary bytes as the answers to one kind of request, or to all.
func FuzzAnswer(f *testing.F) {
	kinds := []string{"", "POST auth/tokens", "auth/projects", "loadbalancers", "listeners", "pools", "members", "loadbalancers?project_id", "floatingips", "ports"}
	const lb = `{"id":"a","project_id":"%032x","provisioning_status":"ACTIVE","admin_state_up":true,"created_at":"2020-01-01T00:00:00","vip_address":"127.0.0.1","listeners":[{"id":"l"}],"pools":[{"id":"p"}]}`
	f.Add(byte(3), false, fmt.Appendf(nil, `{"loadbalancers":[`+lb+`],"loadbalancers_links":[]}`, 1))
	f.Add(byte(3), true, fmt.Appendf(nil, `{"loadbalancers":[`+lb+`],"loadbalancers_links":[{"rel":"next"}]}`, 1))
	f.Add(byte(4), false, []byte(`{"listeners":[{"id":"l","protocol":"TCP","protocol_port":-1,"admin_state_up":true,"default_pool_id":"p","loadbalancers":[{"id":"0000000a-0000-4000-8000-000000000000"}]}]}`))
	f.Add(byte(5), false, []byte(`{"pools":[{"id":"p","protocol":"HTTP","admin_state_up":true,"loadbalancers":[{"id":"0000000a-0000-4000-8000-000000000000"}],"members":[{"id":"m"}]}]}`))
	f.Add(byte(6), false, []byte(`{"members":[{"id":"0000000d-0000-4000-8000-000000000000","address":"169.254.169.254","protocol_port":80,"weight":256,"admin_state_up":true,"operating_status":"ONLINE"}]}`))
	f.Add(byte(2), false, []byte(`{"projects":[{"id":"x","name":"kube-system","domain_id":"../.."}],"links":{"next":null}}`))
	f.Add(byte(1), false, []byte(`{"token":{"expires_at":"2100-01-01T00:00:00.000000Z","catalog":[{"type":"load-balancer","endpoints":[{"interface":"public","region":"RegionOne","url":"file:///etc/passwd"}]}],"project":{"id":"x"}}}`))
	f.Add(byte(8), true, []byte(`{"floatingips":[{"id":"f","floating_ip_address":"::1","port_id":"x"}]}`))
	f.Add(byte(0), false, []byte(`{"a":1,"a":[`))
	c := startCloud(f, openstacktest.Size{Projects: 1, LoadBalancers: 1, Pools: 1, Members: 1}, func(c *openstacktest.Cloud) { c.Neutron = true })
	o, r := options(f, c), rules(f)
	var instead openstacktest.Fault
	c.Inject(func(w http.ResponseWriter, r *http.Request) bool { return instead != nil && instead(w, r) })
	f.Fuzz(func(t *testing.T, which byte, vip bool, body []byte) {
		kind := kinds[int(which)%len(kinds)]
		o := o
		o.Addressing = v1alpha1.AddressingMember
		if vip {
			o.Addressing = v1alpha1.AddressingVIP
		}
		s := without(o, c)
		for range 3 { // the first time, and what is made of it
			instead = func(w http.ResponseWriter, r *http.Request) bool {
				if got := openstacktest.Kind(r); kind != "" && got != kind {
					return false
				}
				if r.Method == http.MethodPost {
					w.Header().Set("X-Subject-Token", "x")
					w.WriteHeader(http.StatusCreated)
				}
				_, _ = w.Write(body)
				return true
			}
			found, err := s.cycle(t.Context(), s.inventory.Load())
			if err != nil {
				if e := s.classify(err); e.Reason == "" || e.Hint == "" || len(e.Err.Error()) > 260 {
					t.Errorf("error %+v", e)
				}
				continue
			}
			s.inventory.Store(found)
			for k, service := range found.services {
				if service.Key != k {
					t.Errorf("key %v of %v", k, service.Key)
				}
				checkMirrored(t, r, service)
			}
		}
	})
}

// FuzzPage compares page with a reading of the whole answer at once, and checks that no part of an answer passes for it.
func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"pools":[{"id":"a","members":[{"id":"m"}]},{"id":"b"}],"pools_links":[{"rel":"next","href":"x"}]}`))
	f.Add([]byte(`{"links":{"next":"x"},"pools":[],"truncated":true}`))
	f.Add([]byte(` {"a" : [1, {"b": null}] , "pools" : [ null ] } `))
	f.Add([]byte(`{"pools":[1 2]}`))
	f.Add([]byte(`{"pools":[{}],,}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, more, err := page[pool](bytes.NewReader(body), "pools", 100)
		if err != nil {
			return
		}
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var want []pool
		if err := json.Unmarshal(answer["pools"], &want); err != nil || text(got) != text(want) {
			t.Errorf("got %s, want %s, error %v", text(got), text(want), err)
		}
		if more && len(got) == 0 {
			t.Error("an empty page with a next one")
		}
		for i := range bytes.TrimRight(body, " \t\r\n") {
			if _, _, err := page[pool](bytes.NewReader(body[:i]), "pools", 100); err == nil {
				t.Errorf("%q passes for %q", body[:i], body)
			}
		}
	})
}

// hostile makes a tree of fuzz bytes, with what no Octavia would say.
func hostile(b *fuzzBytes) *tree {
	status := func() string { return b.pick("ONLINE", "ERROR", "NO_MONITOR", "DRAINING", "DEGRADED", "", "x") }
	t := &tree{loadBalancer: loadBalancer{
		ID: b.pick("a", "A", "0000000a-0000-4000-8000-000000000000", "a_b", strings.Repeat("a", 64)), Name: b.pick("web", "", "W e\x00b", strings.Repeat("ü", 300)),
		Enabled: b.n(8) != 7, Operating: status(), Tags: []string{b.pick("a=b", "=", "a=b=c", "x y=z", "kubernetes.io/x=y"), b.pick("a=c", "", "\xff=\xff")},
	}, place: place{namespace: b.pick("team", "a/b", "", "T", strings.Repeat("n", 64)), own: map[string]string{AnnotationProject: b.pick("d/p", strings.Repeat("p", 1000))}}}
	address := func() string {
		return b.pick("10.0.0.1", "10.0.0.2", "fd00::1", "127.0.0.1", "169.254.169.254", "10.96.0.1", "0.0.0.0", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "010.0.0.1", "x", "", "FD00::0:1",
			fmt.Sprintf("10.%d.%d.%d", b.n(256), b.n(256), b.n(256)))
	}
	for range b.n(4) {
		t.addresses = append(t.addresses, address())
	}
	for i := range b.n(5) {
		t.pools = append(t.pools, &poolTree{listened: b.n(2) == 1, pool: pool{ID: fmt.Sprint("p", i), Name: b.pick("", "p", strings.Repeat("-", 99)), Enabled: b.n(8) != 7, TLS: b.n(4) == 3,
			Protocol: b.pick("HTTP", "HTTPS", "TCP", "UDP", "SCTP", "PROXY", "PROXYV2", "", "x")}})
		n := b.n(256)
		for j := range n {
			m := member{ID: fmt.Sprint("m", j), Address: fmt.Sprintf("10.0.%d.%d", i, j), Port: 8080, Enabled: true, Operating: "ONLINE"}
			if j < 8 {
				m.Address, m.Port, m.Operating, m.Enabled, m.Backup = address(), int32(b.n(256))*300-300, status(), b.n(8) != 7, b.n(4) == 3
				if b.n(2) == 1 {
					m.Weight = new(int32(b.n(256)) - 1)
				}
			}
			t.pools[i].members = append(t.pools[i].members, m)
		}
	}
	for i := range b.n(6) {
		t.listeners = append(t.listeners, listener{ID: fmt.Sprint("l", i), Port: int32(b.n(256))*300 - 300, Enabled: b.n(8) != 7,
			Protocol: b.pick("HTTP", "HTTPS", "TERMINATED_HTTPS", "TCP", "UDP", "SCTP", "PROMETHEUS", "", "x"), DefaultPool: b.pick("p0", "p1", "p2", "", "p9")})
	}
	return t
}

// FuzzServices translates trees as no Octavia has them, and checks what the central cluster would hold.
func FuzzServices(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x02\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x03\x01\x00\x00\x00"), false)
	f.Add([]byte(strings.Repeat("\x02\x01\x03\x00\xff\x07", 60)), false)
	f.Add([]byte(strings.Repeat("\x03\x01\xc8\x02", 100)), true)
	r := rules(f)
	f.Fuzz(func(t *testing.T, bytes []byte, vip bool) {
		addressing := v1alpha1.AddressingMember
		if vip {
			addressing = v1alpha1.AddressingVIP
		}
		in := hostile(&fuzzBytes{bytes})
		before := dump(in)
		got := in.services(addressing)
		if dump(in) != before {
			t.Error("the input was changed")
		}
		other := hostile(&fuzzBytes{bytes})
		slices.Reverse(other.Tags)
		slices.Reverse(other.addresses)
		for _, p := range other.pools {
			slices.Reverse(p.members)
		}
		again := other.services(addressing)
		if len(again) != len(got) {
			t.Fatalf("%d Services, and then %d", len(got), len(again))
		}
		for i, s := range got {
			objects := checkMirrored(t, r, s)
			if same, _ := r.Desired(again[i]); text(same) != text(objects) {
				t.Errorf("it depends on the order: %s\n%s", text(objects), text(same))
			}
		}
	})
}

func dump(t *tree) string {
	out := text(t.loadBalancer) + text(t.addresses) + text(t.listeners)
	for _, p := range t.pools {
		out += text(p.pool) + text(p.members)
	}
	return out
}
