package mirror

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// source makes Services of fuzz bytes: plausible values, hostile ones, and raw bytes.
type source struct{ bytes []byte }

func (s *source) next() int {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return int(b)
}

func (s *source) pick(options ...string) string {
	n := s.next()
	if n == 255 {
		raw := s.bytes[:min(s.next(), len(s.bytes))]
		s.bytes = s.bytes[len(raw):]
		return string(raw)
	}
	return options[n%len(options)]
}

func (s *source) text(n int, make func() string) map[string]string {
	m := map[string]string{}
	for range n % 6 {
		m[make()] = s.pick("web", "", "a b", "80,https", strings.Repeat("v", 64))
	}
	return m
}

func (s *source) ports() (ports []Port) {
	for range s.next() % 5 {
		ports = append(ports, Port{
			Name:        s.pick("http", "grpc", "", "a_b", "admin"),
			Number:      int32(s.next()*300 - 100),
			Protocol:    corev1.Protocol(s.pick("TCP", "UDP", "", "ICMP")),
			AppProtocol: s.pick("", "kubernetes.io/h2c", "not valid"),
		})
	}
	return ports
}

func (s *source) address() string {
	return s.pick("10.0.0.1", "10.0.0.2", "127.0.0.1", "169.254.169.254", "0.0.0.0", "010.0.0.1", "192.168.1.1", "224.0.0.1",
		"fd00::1", "2001:DB8::0:1", "::1", "::ffff:127.0.0.1", "fe80::1%eth0", "64:ff9b::7f00:1", "10.96.0.1", "example.com",
		fmt.Sprintf("%d.%d.%d.%d", s.next(), s.next(), s.next(), s.next()),
		netip.AddrFrom16([16]byte{byte(s.next()), byte(s.next()), 10: byte(s.next()), 11: byte(s.next()), 15: byte(s.next())}).String())
}

func (s *source) slice() Slice {
	es := Slice{
		Name:        s.pick("web-a", "web-b", strings.Repeat("s", 253), strings.Repeat("s.", 126)+"s", "-x", ""),
		AddressType: discoveryv1.AddressType(s.pick("IPv4", "IPv6", "FQDN", "")),
		Ports:       s.ports(),
	}
	for range s.next() % 8 {
		flags := s.next()
		e := Endpoint{Hostname: s.pick("", "web-0", "a.b"), Zone: s.pick("", "us-east-1a", "a b"),
			Ready: flags&1 > 0, Serving: flags&2 > 0, Terminating: flags&4 > 0}
		if flags&128 > 0 {
			e.Weight = new(int32(flags - 129))
		}
		for range flags >> 3 % 3 {
			e.Addresses = append(e.Addresses, s.address())
		}
		es.Endpoints = append(es.Endpoints, e)
	}
	return es
}

// service makes a Service of the key team/web, or of a hostile key.
func (s *source) service() *Service {
	out := &Service{Key: Key{"team", "web"}}
	if s.next() > 200 {
		out.Key = Key{s.pick("team", "a/b", ""), s.pick(strings.Repeat("w", 63), "a.b", "-a")}
	}
	out.Labels = s.text(s.next(), func() string {
		return s.pick("app", LabelBackend, "helm.sh/chart", "a b", "k8s.io/x", "example.com/ok")
	})
	out.Annotations = s.text(s.next(), func() string { return s.pick(protocolPrefix+"h2", protocolPrefix+"tls", AnnotationSource, "x") })
	out.OwnLabels = s.text(s.next(), func() string { return [...]string{labelLoadBalancer, labelPool, LabelBackend}[s.next()%3] })
	out.OwnAnnotations = s.text(s.next(), func() string { return [...]string{annotationProject, AnnotationSource}[s.next()%2] })
	for key, v := range out.OwnAnnotations { // which a source has read from JSON
		out.OwnAnnotations[key] = strings.ToValidUTF8(v, "")
	}
	out.Ports = s.ports()
	for range s.next() % 4 {
		out.Slices = append(out.Slices, s.slice())
	}
	return out
}

// copied is a deep copy.
func copied(s *Service) *Service {
	out := *s
	out.Labels, out.Annotations = copiedMap(s.Labels), copiedMap(s.Annotations)
	out.OwnLabels, out.OwnAnnotations = copiedMap(s.OwnLabels), copiedMap(s.OwnAnnotations)
	out.Ports, out.Slices = slices.Clone(s.Ports), slices.Clone(s.Slices)
	for i := range out.Slices {
		es := &out.Slices[i]
		es.Ports, es.Endpoints = slices.Clone(es.Ports), slices.Clone(es.Endpoints)
		for j := range es.Endpoints {
			es.Endpoints[j].Addresses = slices.Clone(es.Endpoints[j].Addresses)
		}
	}
	return &out
}

func copiedMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (o Objects) copied() Objects {
	var out Objects
	if o.Service != nil {
		out.Service = o.Service.DeepCopy()
	}
	for _, es := range o.Slices {
		out.Slices = append(out.Slices, es.DeepCopy())
	}
	return out
}

func FuzzDesired(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 9, 0, 0, 0})
	f.Add([]byte(strings.Repeat("\x01\x09\x02\xff\x03", 60)))
	f.Add([]byte(strings.Repeat("\x00\x04\x03\x02", 100)))
	policy, err := NewAddressPolicy([]string{"10.0.0.0/8", "fd00::/8", "127.0.0.0/8", "::/0"}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
	if err != nil {
		f.Fatal(err)
	}
	rules := Rules{Backend: "us-east", Addresses: policy}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		s := (&source{bytes}).service()
		before := copied(s)
		o, refused := rules.Desired(s)
		if !reflect.DeepEqual(s, before) {
			t.Error("the input was changed")
		}
		if len(refused) > maxRefusals {
			t.Errorf("%d refusals", len(refused))
		}
		for _, r := range refused {
			if r.Reason == "" || r.Message == "" || len(r.Message) > maxMessage+3 || r.Key != s.Key {
				t.Errorf("refusal %+v", r)
			}
		}
		if rules.Publishes(s) != (ready(o) > 0) {
			t.Errorf("Publishes is %t, and there are %d ready endpoints", rules.Publishes(s), ready(o))
		}
		if !s.Unsettled && rules.Refuses(s) != (o.Service == nil) {
			t.Errorf("Refuses is %t, and the Service is %v", rules.Refuses(s), o.Service)
		}
		if o.Service == nil {
			if len(o.Slices) > 0 || len(refused) == 0 {
				t.Error("a Service is left out in silence, or its slices aren't")
			}
			return
		}
		checkService(t, o.Service, s)
		if !slices.IsSortedFunc(o.Slices, byName) {
			t.Error("slices aren't sorted")
		}
		for _, es := range o.Slices {
			checkSlice(t, es, o.Service, policy)
		}
		if again := Plan(o, applied(o)); len(again) > 0 {
			t.Errorf("a second plan: %s", summary(again))
		}
	})
}

func checkService(t *testing.T, svc *corev1.Service, s *Service) {
	if b, k, ok := Owner(svc); !ok || b != "us-east" || k != s.Key {
		t.Errorf("owner %s %s", b, k)
	}
	if errs := validation.IsDNS1035Label(svc.Name); len(errs) > 0 {
		t.Errorf("name %q: %v", svc.Name, errs)
	}
	for key, v := range svc.Labels {
		if len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(v)) > 0 {
			t.Errorf("label %q=%q", key, v)
		}
	}
	for key := range svc.Annotations {
		if !ownAnnotation(key) {
			t.Errorf("annotation %q", key)
		}
	}
	at := -1
	for _, p := range svc.Spec.Ports {
		i := slices.IndexFunc(s.Ports, func(of Port) bool {
			return of.Name == p.Name && of.Number == p.Port && cmp.Or(of.Protocol, corev1.ProtocolTCP) == p.Protocol
		})
		if i <= at {
			t.Error("ports aren't in the upstream's order, or a name occurs twice")
		}
		at = i
		if p.Port < 1 || p.Port > 65535 || p.Protocol == "" {
			t.Errorf("port %+v", p)
		}
	}
}

func checkSlice(t *testing.T, es *discoveryv1.EndpointSlice, svc *corev1.Service, policy AddressPolicy) {
	if b, _, ok := Owner(es); !ok || b != "us-east" || es.Labels[discoveryv1.LabelServiceName] != svc.Name {
		t.Errorf("owner of %s", es.Name)
	}
	if errs := validation.IsDNS1123Subdomain(es.Name); len(errs) > 0 {
		t.Errorf("name %q: %v", es.Name, errs)
	}
	if es.AddressType == discoveryv1.AddressTypeFQDN || len(es.Ports) == 0 {
		t.Errorf("slice %+v", es)
	}
	checkWeights(t, es)
	names := map[string]bool{}
	for _, p := range es.Ports {
		matches := func(sp corev1.ServicePort) bool { return sp.Name == *p.Name && sp.Protocol == *p.Protocol }
		if *p.Port < 1 || *p.Port > 65535 || !slices.ContainsFunc(svc.Spec.Ports, matches) {
			t.Errorf("port %+v", p)
		}
		if names[*p.Name] {
			t.Error("a port's name occurs twice")
		}
		names[*p.Name] = true
	}
	if !slices.IsSortedFunc(es.Endpoints, func(a, b discoveryv1.Endpoint) int { return cmp.Compare(a.Addresses[0], b.Addresses[0]) }) {
		t.Error("endpoints aren't sorted")
	}
	for _, e := range es.Endpoints {
		if c := e.Conditions; c.Ready == nil || c.Serving == nil || c.Terminating == nil {
			t.Error("a condition isn't explicit")
		}
		for _, address := range e.Addresses {
			a, err := netip.ParseAddr(address)
			if err != nil || a.String() != address || forbidden(a) || netip.MustParsePrefix("10.96.0.0/12").Contains(a) {
				t.Errorf("address %q", address)
			}
			if reason, err := policy.Check(address, es.AddressType); reason != "" {
				t.Errorf("address %q: %v", address, err)
			}
		}
	}
}

func checkWeights(t *testing.T, es *discoveryv1.EndpointSlice) {
	value, ok := es.Annotations[AnnotationWeights]
	if !ok {
		return
	}
	var weights map[string]int32
	if err := json.Unmarshal([]byte(value), &weights); err != nil || len(weights) == 0 {
		t.Errorf("weights %q: %v", value, err)
	}
	for address, w := range weights {
		if w == 1 || !slices.ContainsFunc(es.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Addresses[0] == address }) {
			t.Errorf("weight %d of %q", w, address)
		}
	}
}

// FuzzPlan goes from one Service to another, and checks that one plan is enough, that
// it changes neither of its inputs nor what is foreign, and that the order is right.
func FuzzPlan(f *testing.F) {
	f.Add([]byte(strings.Repeat("\x00\x01\x01\x01", 40)), []byte(strings.Repeat("\x00\x02\x01\x02", 40)), byte(0))
	f.Add([]byte(strings.Repeat("\x01\x05\x01", 60)), []byte(strings.Repeat("\x00\x01\x09", 60)), byte(1))
	f.Add([]byte(strings.Repeat("\x01\x05\x01", 60)), []byte{}, byte(2))
	f.Fuzz(func(t *testing.T, from, to []byte, hand byte) {
		old, _ := east.Desired((&source{from}).service())
		want, _ := east.Desired((&source{to}).service())
		if old.Service != nil && want.Service != nil && old.Service.Name != want.Service.Name {
			t.Skip("of different keys")
		}
		current := applied(old)
		meddle(current, hand)
		wantBefore, currentBefore := want.copied(), current.copied()
		changes := Plan(want, current)
		if !reflect.DeepEqual(want.copied(), wantBefore) || !reflect.DeepEqual(current.copied(), currentBefore) {
			t.Error("an input was changed")
		}
		for _, c := range changes {
			if _, _, ok := Owner(either(c)); !ok {
				t.Errorf("a foreign object is changed: %s", summary([]Change{c}))
			}
		}
		checkOrder(t, want, changes)
		if again := Plan(want, apply(current, changes)); len(again) > 0 {
			t.Errorf("first %s; then %s", summary(changes), summary(again))
		}
		if got := Plan(Expired(current), current); slices.ContainsFunc(got, func(c Change) bool { return c.Verb != Update || c.Service != nil }) {
			t.Errorf("expiry: %s", summary(got))
		}
	})
}

// meddle does what someone may do to central objects by hand.
func meddle(o Objects, hand byte) {
	if o.Service == nil {
		return
	}
	switch hand % 6 {
	case 1:
		o.Service.Labels["mine"] = "x"
	case 2:
		o.Service.Spec.ClusterIP = "10.96.0.1"
	case 3:
		o.Service.Annotations = nil
	case 4:
		o.Service.Spec.Selector = map[string]string{"a": "b"}
		o.Service.Spec.Ports = nil
	case 5:
		for _, es := range o.Slices {
			es.Labels[LabelBackend] = "us-west"
		}
	}
}

func checkOrder(t *testing.T, want Objects, changes []Change) {
	serviceDone := false
	rank := map[Verb]int{Create: 1, Update: 2, Delete: 3}
	last := 0
	for _, c := range changes {
		if c.Service != nil {
			if serviceDone {
				t.Errorf("the Service isn't first: %s", summary(changes))
			}
			continue
		}
		serviceDone = true
		if want.Service == nil || c.Verb == Delete && slices.Equal(c.Why, []string{"addressType"}) && last == 0 {
			continue
		}
		if rank[c.Verb] < last {
			t.Errorf("order: %s", summary(changes))
		}
		last = rank[c.Verb]
	}
}
