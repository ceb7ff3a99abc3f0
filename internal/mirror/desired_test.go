package mirror

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

var east = Rules{Backend: "us-east"}

// web is a Service of two ports with one slice of two endpoints.
func web() *Service {
	return &Service{
		Key:         Key{"team", "web"},
		Labels:      map[string]string{"app": "web", "app.kubernetes.io/name": "web"},
		Annotations: map[string]string{"projectcontour.io/upstream-protocol.h2c": "grpc,9000"},
		Ports:       []Port{{Name: "http", Number: 80, Protocol: corev1.ProtocolTCP}, {Name: "grpc", Number: 9000, Protocol: corev1.ProtocolTCP, AppProtocol: "kubernetes.io/h2c"}},
		Slices: []Slice{{
			Name:        "web-abc",
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []Port{{Name: "http", Number: 8080, Protocol: corev1.ProtocolTCP}, {Name: "grpc", Number: 9000, Protocol: corev1.ProtocolTCP}},
			Endpoints: []Endpoint{
				{Addresses: []string{"10.0.0.2"}, Zone: "us-east-1a", Ready: true, Serving: true},
				{Addresses: []string{"10.0.0.1"}, Hostname: "web-0", Ready: true, Serving: true},
			},
		}},
	}
}

// webWith is web after a change.
func webWith(change func(*Service)) *Service {
	s := web()
	change(s)
	return s
}

// https://github.com/kubernetes/kubernetes/pull/102683: addresses that aren't ready must not become ready by being mirrored.
func TestNotReadyIsNeverPublishedAsReady(t *testing.T) {
	for _, e := range []Endpoint{
		{},
		{Serving: true},
		{Serving: true, Terminating: true},
		{Terminating: true},
	} {
		e.Addresses = []string{"10.0.0.1"}
		o, _ := east.Desired(webWith(func(s *Service) { s.Slices[0].Endpoints = []Endpoint{e} }))
		c := o.Slices[0].Endpoints[0].Conditions
		if c.Ready == nil || *c.Ready {
			t.Errorf("%+v: ready is missing or true", e)
		}
		if c.Serving == nil || *c.Serving != e.Serving || c.Terminating == nil || *c.Terminating != e.Terminating {
			t.Errorf("%+v: serving or terminating is missing or differs", e)
		}
	}
}

func TestDesired(t *testing.T) {
	o, refused := east.Desired(web())
	if len(refused) > 0 {
		t.Fatalf("refused: %v", refused)
	}
	s, es := o.Service, o.Slices[0]
	for what, ok := range map[string]bool{
		"Service name":     s.Namespace == "team" && s.Name == "us-east-web",
		"headless":         s.Spec.Type == "ClusterIP" && s.Spec.ClusterIP == "None" && s.Spec.Selector == nil,
		"Service ports":    fmt.Sprint(servicePortNames(s)) == "[http grpc]" && *s.Spec.Ports[1].AppProtocol == "kubernetes.io/h2c",
		"Service labels":   maps.Equal(s.Labels, map[string]string{"app": "web", "app.kubernetes.io/name": "web", LabelBackend: "us-east", LabelService: "web"}),
		"annotations":      maps.Equal(s.Annotations, map[string]string{AnnotationSource: "us-east/team/web", "projectcontour.io/upstream-protocol.h2c": "grpc,9000"}),
		"slice name":       es.Namespace == "team" && es.Name == "us-east-web-abc",
		"slice labels":     maps.Equal(es.Labels, map[string]string{"kubernetes.io/service-name": "us-east-web", "endpointslice.kubernetes.io/managed-by": ManagedBy, LabelBackend: "us-east", LabelService: "web"}),
		"slice annotation": maps.Equal(es.Annotations, map[string]string{AnnotationSource: "us-east/team/web"}),
		"owner":            len(es.OwnerReferences) == 1 && es.OwnerReferences[0].Kind == "Service" && es.OwnerReferences[0].Name == "us-east-web" && *es.OwnerReferences[0].Controller,
		"slice ports":      len(es.Ports) == 2 && *es.Ports[1].Name == "grpc" && *es.Ports[0].Port == 8080 && *es.Ports[0].Protocol == "TCP",
		"endpoint order":   len(es.Endpoints) == 2 && es.Endpoints[0].Addresses[0] == "10.0.0.1",
		"hostname, zone":   *es.Endpoints[0].Hostname == "web-0" && *es.Endpoints[1].Zone == "us-east-1a",
	} {
		if !ok {
			t.Errorf("%s: got %+v, %+v", what, s, es)
		}
	}
}

func servicePortNames(s *corev1.Service) (names []string) {
	for _, p := range s.Spec.Ports {
		names = append(names, p.Name)
	}
	return names
}

func TestDesiredLabels(t *testing.T) {
	for key, tc := range map[string]struct {
		value string
		kept  bool
	}{
		"app":                                      {"web", true},
		"example.com/tier":                         {"", true},
		"app.kubernetes.io/name":                   {"web", true},
		"app.kubernetes.io/part-of":                {"shop", true},
		"app.kubernetes.io/instance":               {"web", false},
		"app.kubernetes.io/managed-by":             {"Helm", false},
		"kubernetes.io/service-name":               {"web", false},
		"service.kubernetes.io/headless":           {"", false},
		"service.kubernetes.io/service-proxy-name": {"x", false},
		"multicluster.x-k8s.io/service-name":       {"x", false},
		"config.k8s.io/owning-inventory":           {"x", false},
		"argocd.argoproj.io/instance":              {"x", false},
		"kustomize.toolkit.fluxcd.io/name":         {"x", false},
		"helm.toolkit.fluxcd.io/namespace":         {"x", false},
		"fleet.cattle.io/bundle-id":                {"x", false},
		"objectset.rio.cattle.io/hash":             {"x", false},
		"helm.sh/chart":                            {"x", false},
		"gimbal.projectcontour.io/anything":        {"x", false},
		"denied":                                   {"x", false},
		"denied.example/a":                         {"x", false},
		"denied.example.com/a":                     {"x", true},
		"-bad":                                     {"x", false},
		"bad":                                      {"not valid!", false},
		"Bad.Prefix/a":                             {"x", false},
	} {
		r := Rules{Backend: "us-east", DeniedLabels: []string{"denied", "denied.example/*", "*", "app*"}}
		o, _ := r.Desired(webWith(func(s *Service) { s.Labels = map[string]string{key: tc.value} }))
		if _, kept := o.Service.Labels[key]; kept != tc.kept {
			t.Errorf("label %q: kept %t, want %t", key, kept, tc.kept)
		}
	}
}

func TestOwnLabelsCannotBeForged(t *testing.T) {
	o, _ := east.Desired(webWith(func(s *Service) {
		s.Labels = map[string]string{LabelBackend: "other", LabelService: "other"}
		s.Annotations = map[string]string{AnnotationSource: "other/team/web"}
	}))
	if b, k, ok := Owner(o.Service); !ok || b != "us-east" || k != (Key{"team", "web"}) {
		t.Errorf("owner is %s %s %t", b, k, ok)
	}
}

func TestDesiredAnnotations(t *testing.T) {
	const h2 = "projectcontour.io/upstream-protocol.h2"
	for name, tc := range map[string]struct {
		key, value string
		kept       bool
		refused    int
	}{
		"port list":      {h2, "80, https,grpc-web", true, 0},
		"of many ports":  {h2, strings.Repeat("some-port-name,", 5000), true, 0},
		"other protocol": {"projectcontour.io/upstream-protocol.spdy", "80", false, 0},
		"other Contour":  {"projectcontour.io/max-connections", "1", false, 0},
		"other":          {"kubectl.kubernetes.io/last-applied-configuration", "{}", false, 0},
		"newline":        {h2, "80\n", false, 1},
		"too long":       {h2, strings.Repeat("a", maxProtocolValue+1), false, 1},
	} {
		o, refused := east.Desired(webWith(func(s *Service) { s.Annotations = map[string]string{tc.key: tc.value} }))
		if _, kept := o.Service.Annotations[tc.key]; kept != tc.kept || len(refused) != tc.refused {
			t.Errorf("%s: kept %t, refused %v", name, kept, refused)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(*Service)
		reason   Reason
		message  string // a part of it
		gone     bool   // the Service isn't mirrored
		noSlices bool
	}{
		"namespace":    {func(s *Service) { s.Namespace = "a.b" }, ReasonInvalidName, `namespace "a.b"`, true, true},
		"name":         {func(s *Service) { s.Name = "-web" }, ReasonInvalidName, `"-web"`, true, true},
		"slice name":   {func(s *Service) { s.Slices[0].Name = "a..b" }, ReasonInvalidName, `"a..b"`, false, true},
		"FQDN":         {func(s *Service) { s.Slices[0].AddressType = discoveryv1.AddressTypeFQDN }, ReasonFQDNSlice, `"web-abc"`, false, true},
		"address type": {func(s *Service) { s.Slices[0].AddressType = "IPX" }, ReasonInvalidAddress, `"IPX"`, false, true},
		"link-local": {func(s *Service) { s.Slices[0].Endpoints[0].Addresses[0] = "169.254.169.254" }, ReasonAddressDenied,
			`address 169.254.169.254 of slice "web-abc" is link-local, which is always refused; remove such endpoints from the Service`, false, false},
		"second address":   {func(s *Service) { s.Slices[0].Endpoints[0].Addresses = []string{"10.0.0.2", "127.0.0.1"} }, ReasonAddressDenied, "127.0.0.1", false, false},
		"no address":       {func(s *Service) { s.Slices[0].Endpoints[0].Addresses = nil }, ReasonInvalidAddress, "1 to 100 addresses", false, false},
		"endpoints":        {func(s *Service) { s.Slices[0].Endpoints = make([]Endpoint, 1001) }, ReasonTooManyEndpoints, "1001 endpoints", true, true},
		"slice ports":      {func(s *Service) { s.Slices[0].Ports = make([]Port, 20_001) }, ReasonTooManyPorts, "20001 ports", true, true},
		"Service ports":    {func(s *Service) { s.Ports = make([]Port, 20_001) }, ReasonTooManyPorts, "20001 ports", true, true},
		"port 0":           {func(s *Service) { s.Ports[0].Number = 0 }, ReasonInvalidPort, `port "http" (0)`, false, false},
		"protocol":         {func(s *Service) { s.Ports[0].Protocol = "ICMP" }, ReasonInvalidPort, `"ICMP"`, false, false},
		"port name":        {func(s *Service) { s.Ports[0].Name = "a_b" }, ReasonInvalidPort, `"a_b"`, false, false},
		"no port name":     {func(s *Service) { s.Ports[0].Name = "" }, ReasonInvalidPort, "no name", false, false},
		"name twice":       {func(s *Service) { s.Ports[1].Name = "http" }, ReasonInvalidPort, "another port's name", false, false},
		"number twice":     {func(s *Service) { s.Ports[1].Number = 80 }, ReasonInvalidPort, "another port's number", false, false},
		"appProtocol":      {func(s *Service) { s.Ports[0].AppProtocol = "a b" }, ReasonInvalidPort, `appProtocol "a b"`, false, false},
		"no valid port":    {func(s *Service) { s.Ports = []Port{{Name: "x", Number: -1}} }, ReasonInvalidPort, "65535", true, true},
		"unmatched":        {func(s *Service) { s.Slices[0].Ports[0].Name = "other" }, ReasonPortUnmatched, `"other"`, false, false},
		"none matched":     {func(s *Service) { s.Slices[0].Ports = s.Slices[0].Ports[:1]; s.Slices[0].Ports[0].Protocol = "UDP" }, ReasonPortUnmatched, `"http"`, false, true},
		"no number":        {func(s *Service) { s.Slices[0].Ports[0].Number = 0 }, ReasonPortUnmatched, `"http"`, false, false},
		"no slice ports":   {func(s *Service) { s.Slices[0].Ports = nil }, ReasonPortUnmatched, "no ports", false, true},
		"slice twice":      {func(s *Service) { s.Slices = append(s.Slices, Slice{Name: "z", AddressType: "IPv4"}, s.Slices[0]) }, ReasonInvalidName, `"web-abc" occurs twice`, false, false},
		"slice port twice": {func(s *Service) { s.Slices[0].Ports[1].Name = "http" }, ReasonPortUnmatched, `"http"`, false, false},
		"refused by source": {func(s *Service) {
			s.Refused, s.Refusals = true, []Refusal{{s.Key, "ExternalName", "an ExternalName"}}
		}, "ExternalName", "ExternalName", true, true},
		"long message": {func(s *Service) { s.Refusals = []Refusal{{s.Key, "NoNodePort", strings.Repeat("x", maxMessage+1)}} }, "NoNodePort", "x…", false, false},
		"label":        {func(s *Service) { s.Labels["a b"] = "" }, ReasonInvalidLabel, `"a b"`, false, false},
		"source's":     {func(s *Service) { s.Refusals = []Refusal{{s.Key, "NoNodePort", "no node port"}} }, "NoNodePort", "no node port", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, refused := east.Desired(webWith(tc.change))
			found := slices.ContainsFunc(refused, func(f Refusal) bool {
				return f.Reason == tc.reason && strings.Contains(f.Message, tc.message)
			})
			if !found {
				t.Errorf("want %s with %q, got %v", tc.reason, tc.message, refused)
			}
			if gone := o.Service == nil; gone != tc.gone || (len(o.Slices) == 0) != tc.noSlices {
				t.Errorf("got %v", o)
			}
		})
	}
}

func TestServiceWithoutPorts(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) { s.Ports, s.Slices[0].Ports = nil, nil }))
	if o.Service == nil || len(o.Slices) != 0 || len(refused) != 0 {
		t.Errorf("got %v, refused %v", o, refused)
	}
}

func TestUnnamedPort(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) {
		s.Ports, s.Slices[0].Ports = []Port{{Number: 80}}, []Port{{Number: 8080}}
	}))
	if len(refused) != 0 || *o.Slices[0].Ports[0].Name != "" || *o.Slices[0].Ports[0].Protocol != "TCP" {
		t.Errorf("got %v, refused %v", o, refused)
	}
}

func TestGoodSliceBesideFQDN(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) {
		s.Slices = append(s.Slices, Slice{Name: "aaa", AddressType: discoveryv1.AddressTypeFQDN})
	}))
	if len(o.Slices) != 1 || o.Slices[0].Name != "us-east-web-abc" || len(refused) != 1 {
		t.Errorf("got %v, refused %v", o.Slices, refused)
	}
}

func TestOneRefusalForManyAddresses(t *testing.T) {
	policy, err := NewAddressPolicy([]string{"10.0.0.0/8"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, refused := Rules{Backend: "us-east", Addresses: policy}.Desired(webWith(func(s *Service) {
		for i := range 500 {
			s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{127, 0, byte(i / 256), byte(i)}).String()}})
		}
		s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, Endpoint{Addresses: []string{"192.168.0.1"}})
	}))
	if len(o.Slices[0].Endpoints) != 2 || len(refused) != 2 {
		t.Fatalf("%d endpoints, refused %v", len(o.Slices[0].Endpoints), refused)
	}
	const want = `500 endpoints of slice "web-abc" are refused: address 127.0.0.0 is loopback, which is always refused; ` +
		`address 127.0.0.1 is loopback, which is always refused; address 127.0.0.2 is loopback, which is always refused and 497 more; remove such endpoints from the Service`
	if refused[0].Message != want {
		t.Errorf("got  %s\nwant %s", refused[0].Message, want)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	_, refused := east.Desired(webWith(func(s *Service) {
		for i := range 5000 {
			s.Slices = append(s.Slices, Slice{Name: strings.Repeat("\x00", 300) + fmt.Sprint(i)})
			s.Labels[fmt.Sprint("bad label ", i)] = ""
			s.Labels[fmt.Sprint("good", i)] = ""
		}
	}))
	if len(refused) != maxRefusals || !strings.HasPrefix(refused[maxRefusals-1].Message, "4971 more") {
		t.Errorf("%d refusals, the last %v", len(refused), refused[len(refused)-1])
	}
	for _, f := range refused {
		if len(f.Message) > maxMessage+3 {
			t.Errorf("a message of %d bytes", len(f.Message))
		}
	}
}

func TestLabelsAreBounded(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) {
		for i := range maxLabels + 100 {
			s.Labels[fmt.Sprintf("l%04d", i)] = ""
		}
	}))
	if len(o.Service.Labels) != maxLabels+2 || len(refused) != 1 {
		t.Errorf("%d labels, refused %v", len(o.Service.Labels), refused)
	}
}

func TestIPv6IsCanonical(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) {
		s.Slices[0].AddressType = discoveryv1.AddressTypeIPv6
		s.Slices[0].Endpoints = []Endpoint{{Addresses: []string{"2001:DB8:0:0::0001"}}}
	}))
	if len(refused) != 0 || o.Slices[0].Endpoints[0].Addresses[0] != "2001:db8::1" {
		t.Errorf("got %v, refused %v", o.Slices, refused)
	}
}

// A hashed name's second dash moves it ahead of plain names.
func TestSlicesAreSortedByCentralName(t *testing.T) {
	o, _ := east.Desired(webWith(func(s *Service) {
		long := s.Slices[0]
		long.Name = strings.Repeat("z", 253)
		s.Slices = append(s.Slices, long)
	}))
	if len(o.Slices) != 2 || o.Slices[1].Name != "us-east-web-abc" {
		t.Errorf("got %s, %s", o.Slices[0].Name, o.Slices[1].Name)
	}
}

// The order of slices and endpoints has no meaning; that of ports has.
func TestDesiredIgnoresUpstreamOrder(t *testing.T) {
	s := webWith(func(s *Service) {
		s.Slices = append(s.Slices, Slice{Name: "web-aaa", AddressType: discoveryv1.AddressTypeIPv4, Ports: s.Slices[0].Ports,
			Endpoints: []Endpoint{{Addresses: []string{"10.0.1.1"}, Ready: true}, {Addresses: []string{"10.0.1.1"}}}})
	})
	want, _ := east.Desired(s)
	for i := range s.Slices {
		slices.Reverse(s.Slices[i].Endpoints)
	}
	slices.Reverse(s.Slices)
	got, _ := east.Desired(s)
	if changes := Plan(got, applied(want)); len(changes) != 0 {
		t.Errorf("the order makes changes: %v", changes)
	}
}

// Kubernetes keeps such a slice for a Service whose pods are all gone.
func TestDesiredEmptySliceIsNoRefusal(t *testing.T) {
	s := Service{
		Key:    Key{Namespace: "team-a", Name: "web"},
		Ports:  []Port{{Name: "http", Number: 80}},
		Slices: []Slice{{Name: "web-abc", AddressType: discoveryv1.AddressTypeIPv4}},
	}
	got, refused := Rules{Backend: "us-east"}.Desired(&s)
	if len(refused) != 0 || got.Service == nil || len(got.Slices) != 0 {
		t.Errorf("Service %v, %d slices, refused %v; want the Service alone", got.Service != nil, len(got.Slices), refused)
	}
}
