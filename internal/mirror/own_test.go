package mirror

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Labels and an annotation that a kind of upstream might set.
const (
	labelLoadBalancer = Prefix + "load-balancer"
	labelPool         = Prefix + "pool"
	annotationProject = Prefix + "project"
)

// What a source says of a Service, and no upstream can.
func TestOwnLabelsAndAnnotations(t *testing.T) {
	for name, tc := range map[string]struct {
		labels, own, want map[string]string // want: besides web's, and less than web's where it is empty
	}{
		"own":               {nil, map[string]string{labelLoadBalancer: "shop", labelPool: "blue"}, map[string]string{labelLoadBalancer: "shop", labelPool: "blue"}},
		"empty":             {nil, map[string]string{labelPool: ""}, nil},
		"invalid":           {nil, map[string]string{labelPool: "a b"}, nil},
		"upstream's":        {map[string]string{labelLoadBalancer: "forged"}, nil, nil},
		"own beats it":      {map[string]string{labelLoadBalancer: "forged"}, map[string]string{labelLoadBalancer: "shop"}, map[string]string{labelLoadBalancer: "shop"}},
		"ours beat all":     {nil, map[string]string{LabelBackend: "x", LabelService: "y"}, nil},
		"beside many of it": {manyLabels(100), map[string]string{labelPool: "blue"}, map[string]string{labelPool: "blue"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := webWith(func(s *Service) {
				s.OwnLabels = tc.own
				if tc.labels != nil {
					s.Labels = tc.labels
				}
			})
			o, _ := east.Desired(s)
			got := maps.Clone(o.Service.Labels)
			maps.DeleteFunc(got, func(k, _ string) bool { return !strings.HasPrefix(k, Prefix) })
			want := map[string]string{LabelBackend: "us-east", LabelService: "web"}
			maps.Copy(want, tc.want)
			if !maps.Equal(got, want) {
				t.Errorf("got %v", got)
			}
		})
	}
	s := webWith(func(s *Service) {
		s.OwnAnnotations = map[string]string{annotationProject: "d/p", AnnotationSource: "forged/a/b"}
		s.Annotations[annotationProject] = "forged"
		s.Annotations[AnnotationWeights] = "forged"
	})
	o, _ := east.Desired(s)
	if a := o.Service.Annotations; a[annotationProject] != "d/p" || a[AnnotationSource] != "us-east/team/web" || len(a) != 3 || s.OwnAnnotations[AnnotationSource] != "forged/a/b" {
		t.Errorf("got %v", a)
	}
}

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m["l"+strings.Repeat("x", i%60)+string(rune('a'+i/60))] = "v"
	}
	return m
}

// An own annotation that the source doesn't set any more goes; others' stay.
func TestOwnAnnotationsArePlanned(t *testing.T) {
	o, _ := east.Desired(webWith(func(s *Service) { s.OwnAnnotations = map[string]string{annotationProject: "d/p"} }))
	current := applied(o)
	current.Service.Annotations["example.com/mine"] = "x"
	if changes := Plan(o, current); len(changes) > 0 {
		t.Errorf("unchanged: %s", summary(changes))
	}
	without, _ := east.Desired(web())
	changes := Plan(without, current)
	if len(changes) != 1 || changes[0].Why[0] != "annotations" || !strings.Contains(string(changes[0].Patch), `"`+annotationProject+`":null`) || strings.Contains(string(changes[0].Patch), "example.com") {
		t.Errorf("got %s: %s", summary(changes), changes[0].Patch)
	}
}

func weighted(address string, w *int32) Endpoint {
	return Endpoint{Addresses: []string{address}, Ready: true, Serving: true, Weight: w}
}

func TestWeights(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoints []Endpoint
		want      string
	}{
		"none":           {[]Endpoint{weighted("10.0.0.1", nil)}, ""},
		"of 1":           {[]Endpoint{weighted("10.0.0.1", new(int32(1))), weighted("10.0.0.2", nil)}, ""},
		"some":           {[]Endpoint{weighted("10.0.0.2", new(int32(0))), weighted("10.0.0.3", new(int32(1))), weighted("10.0.0.1", new(int32(5)))}, `{"10.0.0.1":5,"10.0.0.2":0}`},
		"canonical":      {[]Endpoint{weighted("10.0.0.1", new(int32(256)))}, `{"10.0.0.1":256}`},
		"of what's left": {[]Endpoint{weighted("127.0.0.1", new(int32(5))), weighted("10.0.0.1", new(int32(2)))}, `{"10.0.0.1":2}`},
	} {
		o, _ := east.Desired(webWith(func(s *Service) { s.Slices[0].Endpoints = tc.endpoints }))
		got, ok := o.Slices[0].Annotations[AnnotationWeights]
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	o, _ := east.Desired(webWith(func(s *Service) {
		s.Slices[0].AddressType, s.Slices[0].Endpoints = "IPv6", []Endpoint{weighted("2001:DB8::0:1", new(int32(7)))}
	}))
	if got := o.Slices[0].Annotations[AnnotationWeights]; got != `{"2001:db8::1":7}` {
		t.Errorf("got %q", got)
	}
}

// A slice of which every endpoint is refused is no empty one, as an upstream has where it has no endpoints.
func TestSliceOfRefusedEndpoints(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoints []Endpoint
		slices    int
	}{
		"all refused":  {[]Endpoint{weighted("127.0.0.1", nil), weighted("127.0.0.2", nil)}, 0},
		"one refused":  {[]Endpoint{weighted("127.0.0.1", nil), weighted("10.0.0.1", nil)}, 1},
		"no endpoints": {nil, 1},
	} {
		o, refused := east.Desired(webWith(func(s *Service) { s.Slices = s.Slices[:1]; s.Slices[0].Endpoints = tc.endpoints }))
		if o.Service == nil || len(o.Slices) != tc.slices || (len(refused) > 0) != (len(tc.endpoints) > 0) {
			t.Errorf("%s: slices %v, refused %v", name, o.Slices, refused)
		}
	}
}

func TestWeightsArePlanned(t *testing.T) {
	heavy := func(w *int32) Objects {
		o, _ := east.Desired(webWith(func(s *Service) { s.Slices[0].Endpoints[0].Weight = w }))
		return o
	}
	current := applied(heavy(new(int32(5))))
	for name, tc := range map[string]struct {
		want Objects
		why  string
	}{
		"the same":  {heavy(new(int32(5))), ""},
		"another":   {heavy(new(int32(6))), "annotations"},
		"none":      {heavy(nil), "annotations"},
		"of 1":      {heavy(new(int32(1))), "annotations"},
		"ready now": {heavy(new(int32(0))), "annotations"},
	} {
		changes := Plan(tc.want, current)
		switch {
		case tc.why == "" && len(changes) > 0, tc.why != "" && (len(changes) != 1 || changes[0].Slice == nil || changes[0].Why[0] != tc.why):
			t.Errorf("%s: %s", name, summary(changes))
		case tc.why != "" && changes[0].Slice.Annotations[AnnotationWeights] != tc.want.Slices[0].Annotations[AnnotationWeights]:
			t.Errorf("%s: annotations %v", name, changes[0].Slice.Annotations)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Service)
		want   bool
	}{
		"ordinary":              {func(*Service) {}, false},
		"refused":               {func(s *Service) { s.Refused = true }, true},
		"a part refused":        {func(s *Service) { s.Refusals = []Refusal{{Reason: "Unsupported"}} }, false},
		"invalid name":          {func(s *Service) { s.Name = "a_b" }, true},
		"invalid ports":         {func(s *Service) { s.Ports = []Port{{Number: 0, Protocol: corev1.ProtocolTCP}} }, true},
		"unsettled":             {func(s *Service) { s.Unsettled, s.Ports, s.Slices = true, nil, nil }, false},
		"unsettled and refused": {func(s *Service) { s.Unsettled, s.Refused = true, true }, false},
		"unsettled of any name": {func(s *Service) { s.Unsettled, s.Name = true, "a_b" }, false},
	} {
		s := webWith(tc.change)
		if got := east.Refuses(s); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
		if o, _ := east.Desired(s); !s.Unsettled && (o.Service == nil) != tc.want {
			t.Errorf("%s: Desired gives %v", name, o.Service)
		}
	}
}
