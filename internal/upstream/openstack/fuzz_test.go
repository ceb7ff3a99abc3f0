package openstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	kinds := []string{"", "POST auth/tokens", "auth/projects", "loadbalancers", "listeners", "pools", "members", "loadbalancers?project_id", "floatingips"}
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
		got, more, err := page[pool](body, "pools", 100)
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
			if _, _, err := page[pool](body[:i], "pools", 100); err == nil {
				t.Errorf("%q passes for %q", body[:i], body)
			}
		}
	})
}

// world makes a cloud of fuzz bytes: any number of objects in any state, but of distinct names.
func world(b *fuzzBytes) openstacktest.State {
	s := openstacktest.Generate(openstacktest.Size{Projects: 1 + b.n(3), LoadBalancers: b.n(4), Pools: b.n(3), Members: b.n(4)})
	for i, lb := range s.LoadBalancers {
		lb.Created = time.Now().Add(-time.Hour)
		lb.Provisioning, lb.Operating = b.pick("", "", "", "ERROR", "PENDING_UPDATE"), b.pick("", "DEGRADED")
		lb.Disabled = b.n(8) == 7
		lb.Tags = []string{b.pick("a=b", "c"), "x=" + fmt.Sprint(b.n(3))}
		for _, l := range lb.Listeners {
			l.Protocol, l.Disabled = b.pick("HTTP", "TCP", "UDP", "HTTPS", "PROMETHEUS"), b.n(8) == 7
			if b.n(4) == 3 {
				l.Pool = ""
			}
		}
		for _, p := range lb.Pools {
			p.Protocol, p.Operating, p.Disabled = b.pick("HTTP", "TCP", "PROXY"), b.pick("", "DEGRADED"), b.n(8) == 7
			p.Members = p.Members[:b.n(len(p.Members)+1)]
			for _, m := range p.Members {
				m.Weight, m.Backup, m.Operating, m.Disabled = b.n(3), b.n(4) == 3, b.pick("ONLINE", "ERROR", "NO_MONITOR"), b.n(8) == 7
			}
		}
		if b.n(4) == 3 {
			lb.Touch(lb.Created.Add(time.Duration(i) * time.Minute))
		}
	}
	return s
}

// corruption spoils one answer: it is cut, or something else in its place, or has parts left out or twice.
type corruption struct {
	at   int // which request of the cycle
	how  int
	part int // which byte or object
	// silent says that the answer may look as good as a whole one.
	silent bool
}

const (
	cuts, statuses, swaps, empties, repeats, drops, unlinks, hows = 0, 1, 2, 3, 4, 5, 6, 7
)

// fault returns a Fault that spoils the answer to one request, and what tells whether it did.
func (k *corruption) fault(c *openstacktest.Cloud) (f openstacktest.Fault, done func() bool) {
	var n, spoiled atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		if int(n.Add(1)) != k.at+1 || r.Method == http.MethodPost {
			return false
		}
		spoiled.Store(1)
		switch k.how {
		case cuts:
			recorded := httptest.NewRecorder()
			c.Answer(recorded, r)
			body := recorded.Body.Bytes()
			w.WriteHeader(recorded.Code)
			_, _ = w.Write(body[:k.part*len(body)/65536])
		case statuses:
			says([]int{400, 401, 403, 404, 409, 429, 500, 502, 503, 504, 204, 302}[k.part%12], "{}")(w, r)
		case swaps:
			recorded := httptest.NewRecorder()
			other := r.Clone(r.Context())
			other.URL.Path = strings.NewReplacer("loadbalancers", "pools", "listeners", "loadbalancers", "pools", "listeners").Replace(r.URL.Path)
			c.Answer(recorded, other)
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(recorded.Body.Bytes())
		case empties:
			says(http.StatusOK, []string{"", "{}", "null", "[]", "<html></html>", `{"loadbalancers":null,"listeners":null,"pools":null,"members":null,"projects":null}`}[k.part%6])(w, r)
		default:
			k.silent = k.how == drops || k.how == unlinks
			edit(c, w, r, k.editList)
		}
		return true
	}, func() bool { return spoiled.Load() > 0 }
}

func (k *corruption) editList(list string, answer map[string]any) {
	objects, _ := answer[list].([]any)
	switch {
	case k.how == unlinks:
		delete(answer, list+"_links")
	case len(objects) == 0:
	case k.how == repeats:
		answer[list] = append(objects, objects[k.part%len(objects)])
	case k.how == drops:
		answer[list] = slices.Delete(slices.Clone(objects), k.part%len(objects), k.part%len(objects)+1)
	}
}

// content is what a Service says, without what is only told of it.
func content(s *mirror.Service) string {
	c := *s
	c.Refusals = nil
	b, _ := json.Marshal(&c)
	return string(b)
}

// FuzzWhole spoils one answer of a cycle, and checks that the cycle fails, or that every
// Service is as it truly is, as it was before, or unsettled: that none is lost, and that
// none is published that lacks a part.
//
// A listing that leaves out load balancers or projects of which nothing was known before
// can't be told from a whole one: then too what is published is whole.
func FuzzWhole(f *testing.F) {
	for how := range byte(hows) {
		for at := range byte(12) {
			f.Add([]byte("\x02\x02\x02\x03\x00\x01\x02\x00\x00\x00\x00\x03\x00\x00\x00\x00\x03\x03"), at, how, uint16(at)*5000+77, 1+at%3, at%2 == 0)
		}
	}
	c := startCloud(f, openstacktest.Size{})
	o := options(f, c)
	f.Fuzz(func(t *testing.T, state []byte, at, how byte, part uint16, pageLimit byte, known bool) {
		checkWhole(t, c, o, state, at, how, part, pageLimit, known)
	})
}

// TestWhole does what FuzzWhole does with some cases by chance, always the same.
func TestWhole(t *testing.T) {
	c := startCloud(t, openstacktest.Size{})
	o := options(t, c)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		state := make([]byte, 200)
		for i := range state {
			state[i] = byte(chance.IntN(256))
		}
		checkWhole(t, c, o, state, byte(chance.IntN(24)), byte(chance.IntN(hows)), uint16(chance.IntN(65536)), byte(chance.IntN(5)), chance.IntN(3) > 0)
	}
}

func checkWhole(t *testing.T, c *openstacktest.Cloud, o Options, state []byte, at, how byte, part uint16, pageLimit byte, known bool) {
	t.Helper()
	b := &fuzzBytes{state}
	first := world(b)
	c.PageLimit = 1 + int(pageLimit)%5
	c.Inject(nil)
	c.Change(func(s *openstacktest.State) { *s = first })
	s := without(o, c)
	before := &inventory{}
	if known {
		before = read(t, s)
		c.Change(func(s *openstacktest.State) { changeWorld(s, b) })
	}
	truth := read(t, without(o, c))
	k := &corruption{at: int(at) % 40, how: int(how) % hows, part: int(part)}
	fault, spoiled := k.fault(c)
	c.Inject(fault)
	found, err := s.cycle(t.Context(), s.inventory.Load())
	if err != nil {
		return
	}
	for key, now := range found.services {
		if was := before.services[key]; now.Unsettled || now.Refused && now.Refusals[0].Reason == mirror.ReasonUnknownProject && k.silent {
			continue
		} else if was != nil && content(now) == content(was) {
			continue
		}
		if true := truth.services[key]; true == nil || content(now) != content(true) {
			t.Errorf("%v is published as %s, truly it is %s (spoiled: %t)", key, text(now), text(true), spoiled())
		}
	}
	for key, true := range truth.services {
		if was := before.services[key]; found.services[key] == nil && (was != nil || !k.silent && !true.Unsettled) {
			t.Errorf("%v is lost (spoiled: %t, %+v), it was %s and is %s", key, spoiled(), k, text(was), text(true))
		}
	}
}

// changeWorld changes what was made by world, as Octavia does: with the time of the change.
func changeWorld(s *openstacktest.State, b *fuzzBytes) {
	for _, lb := range slices.Clone(s.LoadBalancers) {
		switch b.n(4) {
		case 1:
			s.Remove(lb.ID)
			continue
		case 2:
			lb.Provisioning = "PENDING_UPDATE"
		case 3:
			lb.Provisioning = ""
		}
		if b.n(2) == 1 {
			continue
		}
		lb.Touch(time.Now().Add(-time.Duration(3+b.n(100)) * time.Second))
		for i, p := range lb.Pools {
			switch b.n(4) {
			case 1:
				p.Members = nil
			case 2:
				p.Members = append(p.Members, &openstacktest.Member{ID: "new-" + p.ID, Address: fmt.Sprint("10.9.9.", i), Port: 80, Weight: 1})
			case 3:
				lb.Listeners[i].Port += 1000
			}
		}
	}
}

// hostile makes a tree of fuzz bytes, with what no Octavia would say.
func hostile(b *fuzzBytes) *tree {
	status := func() string { return b.pick("ONLINE", "ERROR", "NO_MONITOR", "DRAINING", "DEGRADED", "", "x") }
	t := &tree{loadBalancer: loadBalancer{
		ID: b.pick("a", "A", "0000000a-0000-4000-8000-000000000000", "a_b", strings.Repeat("a", 64)), Name: b.pick("web", "", "W e\x00b", strings.Repeat("ü", 300)),
		Enabled: b.n(8) != 7, Operating: status(), Tags: []string{b.pick("a=b", "=", "a=b=c", "x y=z", "kubernetes.io/x=y"), b.pick("a=c", "", "\xff=\xff")},
	}, place: place{namespace: b.pick("team", "a/b", "", "T", strings.Repeat("n", 64)), project: b.pick("d/p", strings.Repeat("p", 1000))}}
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
