package mirror

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// applied returns what the central cluster holds once desired has been applied to nothing.
func applied(desired Objects) Objects { return apply(Objects{}, Plan(desired, Objects{})) }

// apply carries out changes as the engine and the API server do, and panics where
// the API server would refuse one.
func apply(current Objects, changes []Change) Objects {
	service := current.Service
	all := map[string]*discoveryv1.EndpointSlice{}
	for _, es := range current.Slices {
		all[es.Name] = es
	}
	for _, c := range changes {
		switch {
		case c.Service != nil && c.Verb == Delete:
			service = nil
		case c.Service != nil:
			service = applyService(service, c)
		case c.Verb == Delete:
			if all[c.Slice.Name] == nil {
				panic("deletes what isn't there")
			}
			delete(all, c.Slice.Name)
		default:
			all[c.Slice.Name] = applySlice(all[c.Slice.Name], c, service)
		}
	}
	next := Objects{Service: service}
	for _, es := range all {
		next.Slices = append(next.Slices, es)
	}
	return next
}

func applyService(current *corev1.Service, c Change) *corev1.Service {
	var s *corev1.Service
	if c.Verb == Create {
		if current != nil || c.Patch != nil {
			panic("creates what is there")
		}
		s = c.Service.DeepCopy()
		s.UID, s.ResourceVersion = types.UID("uid-of-"+s.Name), "1"
	} else {
		s = merged(current, c.Patch)
		if s.UID != current.UID || s.ResourceVersion != current.ResourceVersion {
			panic("patches another object")
		}
		s.ResourceVersion += "1"
	}
	s.Generation = 1
	s.Spec.ClusterIPs = []string{"None"}
	s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].TargetPort = intstr.FromInt32(s.Spec.Ports[i].Port)
	}
	return s
}

func applySlice(current *discoveryv1.EndpointSlice, c Change, service *corev1.Service) *discoveryv1.EndpointSlice {
	es := c.Slice.DeepCopy()
	switch {
	case c.Verb == Create && current != nil:
		panic("creates what is there")
	case c.Verb == Update && (es.UID != current.UID || es.ResourceVersion != current.ResourceVersion || es.AddressType != current.AddressType):
		panic("updates another object, or an immutable field")
	}
	es.UID, es.ResourceVersion, es.Generation = types.UID("uid-of-"+es.Name), es.ResourceVersion+"1", 1
	if es.OwnerReferences[0].UID == "" {
		es.OwnerReferences[0].UID = service.UID
	}
	return es
}

// merged applies a JSON merge patch.
func merged(s *corev1.Service, patch []byte) *corev1.Service {
	doc, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	var target, p map[string]any
	if json.Unmarshal(doc, &target) != nil || json.Unmarshal(patch, &p) != nil {
		panic("not JSON: " + string(patch))
	}
	if doc, err = json.Marshal(merge(target, p)); err != nil {
		panic(err)
	}
	out := &corev1.Service{}
	if err := json.Unmarshal(doc, out); err != nil {
		panic(err)
	}
	return out
}

// merge is the algorithm of RFC 7386, section 2.
func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for key, v := range p {
		if v == nil {
			delete(t, key)
		} else {
			t[key] = merge(t[key], v)
		}
	}
	return t
}

// summary is one line for each change.
func summary(changes []Change) string {
	var lines []string
	for _, c := range changes {
		name := "service"
		if c.Slice != nil {
			name = c.Slice.Name
		}
		line := fmt.Sprintf("%s %s", c.Verb, name)
		if len(c.Why) > 0 {
			line += " " + strings.Join(c.Why, ",")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestPlan(t *testing.T) {
	second := func(s *Service) {
		es := s.Slices[0]
		es.Name, es.Endpoints = "web-xyz", []Endpoint{{Addresses: []string{"10.0.0.3"}, Ready: true}}
		s.Slices = append(s.Slices, es)
	}
	for name, tc := range map[string]struct {
		upstream func(*Service)
		central  func(*Objects)
		want     string
	}{
		"no change":          {nil, nil, ""},
		"empty":              {nil, func(o *Objects) { *o = Objects{} }, "create service; create us-east-web-abc"},
		"label":              {func(s *Service) { s.Labels["app"] = "x"; delete(s.Labels, "app.kubernetes.io/name") }, nil, "update service labels"},
		"foreign label":      {nil, func(o *Objects) { o.Service.Labels["mine"] = "x" }, "update service labels"},
		"annotation":         {func(s *Service) { s.Annotations = nil }, nil, "update service annotations"},
		"foreign annotation": {nil, func(o *Objects) { o.Service.Annotations["mine"] = "x"; o.Slices[0].Annotations["mine"] = "x" }, ""},
		"ports":              {func(s *Service) { s.Ports[0].Number = 81 }, nil, "update service ports"},
		"port renamed":       {func(s *Service) { s.Ports[0].Name, s.Slices[0].Ports[0].Name = "w", "w" }, nil, "update service ports; update us-east-web-abc ports"},
		"selector":           {nil, func(o *Objects) { o.Service.Spec.Selector = map[string]string{"a": "b"} }, "update service selector"},
		"type": {nil, func(o *Objects) {
			o.Service.Spec.Type, o.Service.Spec.ClusterIP, o.Service.Spec.ExternalName = "ExternalName", "", "evil.example"
		}, "update service type"},
		"clusterIP":         {nil, func(o *Objects) { o.Service.Spec.ClusterIP = "10.96.0.7" }, "delete service clusterIP; create service clusterIP; update us-east-web-abc owner"},
		"endpoints":         {func(s *Service) { s.Slices[0].Endpoints[0].Addresses[0] = "10.0.0.9" }, nil, "update us-east-web-abc endpoints: +1 -1"},
		"readiness":         {func(s *Service) { s.Slices[0].Endpoints[0].Ready = false }, nil, "update us-east-web-abc endpoints: ~1"},
		"ready missing":     {nil, func(o *Objects) { o.Slices[0].Endpoints[0].Conditions.Ready = nil }, "update us-east-web-abc endpoints: ~1"},
		"order":             {nil, func(o *Objects) { slices.Reverse(o.Slices[0].Endpoints) }, "update us-east-web-abc endpoints: order"},
		"twins":             {func(s *Service) { s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, s.Slices[0].Endpoints[0]) }, nil, "update us-east-web-abc endpoints: +1"},
		"slice label":       {nil, func(o *Objects) { delete(o.Slices[0].Labels, discoveryv1.LabelManagedBy) }, "update us-east-web-abc labels"},
		"owner":             {nil, func(o *Objects) { o.Slices[0].OwnerReferences[0].UID = "old" }, "update us-east-web-abc owner"},
		"new slice":         {second, nil, "create us-east-web-xyz"},
		"replaced slice":    {func(s *Service) { s.Slices[0].Name = "web-new" }, nil, "create us-east-web-new; delete us-east-web-abc"},
		"moved and changed": {func(s *Service) { second(s); s.Slices[0].Endpoints = nil }, nil, "create us-east-web-xyz; update us-east-web-abc endpoints: -2"},
		"address type":      {func(s *Service) { s.Slices[0].AddressType, s.Slices[0].Endpoints = "IPv6", nil }, nil, "delete us-east-web-abc addressType; create us-east-web-abc addressType"},
		"Service was lost":  {nil, func(o *Objects) { o.Service = nil }, "create service; update us-east-web-abc owner"},
		"foreign Service":   {second, func(o *Objects) { delete(o.Service.Labels, LabelBackend) }, ""},
		"foreign slice":     {second, func(o *Objects) { delete(o.Slices[0].Annotations, AnnotationSource) }, "create us-east-web-xyz"},
		"other's slice":     {func(s *Service) { s.Slices = nil }, func(o *Objects) { o.Slices[0].Annotations[AnnotationSource] = "us-east/team/other" }, ""},
		"being deleted": {func(s *Service) { s.Ports[0].Number = 81; s.Slices = nil }, func(o *Objects) {
			o.Service.DeletionTimestamp, o.Slices[0].DeletionTimestamp = &metav1.Time{}, &metav1.Time{}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := east.Desired(web())
			current := applied(before)
			if tc.central != nil {
				tc.central(&current)
			}
			s := web()
			if tc.upstream != nil {
				tc.upstream(s)
			}
			desired, _ := east.Desired(s)
			changes := Plan(desired, current)
			if got := summary(changes); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if tc.want == "" {
				return
			}
			if again := Plan(desired, apply(current, changes)); len(again) > 0 && name != "foreign slice" {
				t.Errorf("a second plan: %s", summary(again))
			}
		})
	}
}

func TestPlanRemoval(t *testing.T) {
	desired, _ := east.Desired(webWith(func(s *Service) { s.Slices = append(s.Slices, Slice{Name: "a", AddressType: "IPv4", Ports: s.Ports}) }))
	current := applied(desired)
	const want = "delete service; delete us-east-a; delete us-east-web-abc"
	changes := Plan(Objects{}, current)
	if got := summary(changes); got != want {
		t.Errorf("got %s", got)
	}
	for _, c := range changes {
		if o := either(c); o.GetUID() == "" || o.GetResourceVersion() == "" {
			t.Errorf("%s has no preconditions", o.GetName())
		}
	}
	delete(current.Service.Labels, LabelBackend)
	if got := summary(Plan(Objects{}, current)); got != strings.TrimPrefix(want, "delete service; ") {
		t.Errorf("with a foreign Service: got %s", got)
	}
	current = applied(desired)
	current.Service.DeletionTimestamp = &metav1.Time{}
	if got := summary(Plan(Objects{}, current)); got != strings.TrimPrefix(want, "delete service; ") {
		t.Errorf("with a Service being deleted: got %s", got)
	}
}

func either(c Change) metav1.Object {
	if c.Service != nil {
		return c.Service
	}
	return c.Slice
}

func TestServicePatch(t *testing.T) {
	desired, _ := east.Desired(web())
	current := applied(desired)
	current.Service.Labels["mine"] = "x"
	current.Service.Labels["app"] = "y"
	current.Service.Annotations["projectcontour.io/upstream-protocol.tls"] = "443"
	const want = `{"metadata":{"uid":"uid-of-us-east-web","resourceVersion":"1","labels":{"app":"web","mine":null},"annotations":{"projectcontour.io/upstream-protocol.tls":null}}}`
	if got := string(Plan(desired, current)[0].Patch); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSliceUpdateKeepsWhatOthersSet(t *testing.T) {
	desired, _ := east.Desired(web())
	current := applied(desired)
	es := current.Slices[0]
	es.Annotations["mine"], es.Finalizers, es.Endpoints = "x", []string{"example.com/wait"}, nil
	got := Plan(desired, current)[0].Slice
	if got.Annotations["mine"] != "x" || !slices.Equal(got.Finalizers, es.Finalizers) || got.Annotations[AnnotationSource] == "" {
		t.Errorf("got %v", got.ObjectMeta)
	}
}

func TestExpired(t *testing.T) {
	desired, _ := east.Desired(web())
	current := applied(desired)
	expired := Expired(current)
	if got := summary(Plan(expired, current)); got != "update us-east-web-abc endpoints: ~2" {
		t.Errorf("got %s", got)
	}
	for _, e := range expired.Slices[0].Endpoints {
		if *e.Conditions.Ready {
			t.Error("an endpoint is ready")
		}
	}
	if !*current.Slices[0].Endpoints[0].Conditions.Ready {
		t.Error("the current slice was changed")
	}
	if again := apply(current, Plan(expired, current)); len(Plan(Expired(again), again)) != 0 {
		t.Error("a second plan isn't empty")
	}

	// Losing contact deletes nothing, whatever has become of the Service meanwhile.
	lost := Objects{Slices: current.Slices}
	if got := summary(Plan(Expired(lost), lost)); got != "update us-east-web-abc endpoints: ~2" {
		t.Errorf("without a Service: got %s", got)
	}
	foreign := Objects{Service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "us-east-web"}}, Slices: current.Slices}
	if got := summary(Plan(Expired(foreign), foreign)); got != "" {
		t.Errorf("with a foreign Service: got %s", got)
	}
}

func TestTrim(t *testing.T) {
	desired, _ := east.Desired(web())
	current := applied(desired)
	s, es := current.Service, current.Slices[0]
	s.ManagedFields = []metav1.ManagedFieldsEntry{{}}
	s.Annotations["mine"] = "x"
	s.Spec.ExternalIPs = []string{"10.0.0.1"}
	es.ManagedFields = []metav1.ManagedFieldsEntry{{}}
	es.Annotations["mine"] = "x"
	es.Finalizers = []string{"example.com/wait"}
	es.OwnerReferences = append(es.OwnerReferences, metav1.OwnerReference{APIVersion: "example.com/v2", Kind: "Other", Name: "other"})
	es.Endpoints[0].Conditions.Ready = new(false)
	es.Endpoints[0].NodeName = new("node")
	es.Endpoints[0].TargetRef = &corev1.ObjectReference{}

	trimmed := Objects{Service: TrimService(s.DeepCopy()), Slices: []*discoveryv1.EndpointSlice{TrimSlice(es.DeepCopy())}}
	for _, change := range []func(*Service){
		func(*Service) {},
		func(s *Service) {
			s.Ports[0].Number = 1
			s.Slices[0].Endpoints[0].Serving = false
			s.Slices[0].Endpoints[0].Zone = ""
		},
		func(s *Service) { s.Slices = nil; s.Annotations = nil },
	} {
		d, _ := east.Desired(webWith(change))
		a, err1 := json.Marshal(Plan(d, current))
		b, err2 := json.Marshal(Plan(d, trimmed))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if d.Service != nil && len(d.Slices) > 0 && string(a) != string(b) {
			t.Errorf("trimming changes the plan:\n%s\n%s", a, b)
		}
	}
	ts, tes := trimmed.Service, trimmed.Slices[0]
	if !reflect.DeepEqual(tes.OwnerReferences, es.OwnerReferences) {
		t.Errorf("owners are %v", tes.OwnerReferences)
	}
	if !endpointsEqual(tes.Endpoints, es.Endpoints) {
		t.Errorf("endpoints are %v", tes.Endpoints)
	}
	if ts.ManagedFields != nil || ts.Annotations["mine"] != "" || ts.Spec.ExternalIPs != nil ||
		tes.ManagedFields != nil || tes.Endpoints[0].NodeName != nil || tes.Endpoints[0].TargetRef != nil {
		t.Error("something is left")
	}
	if _, _, ok := Owner(ts); !ok || tes.Annotations["mine"] != "x" {
		t.Error("something is missing")
	}
}
