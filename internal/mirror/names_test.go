package mirror

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestServiceName(t *testing.T) {
	for name, tc := range map[string]struct {
		backend, service, want string
	}{
		"plain":         {"us-east", "web", "us-east-web"},
		"exactly 63":    {"us-east", strings.Repeat("a", 55), "us-east-" + strings.Repeat("a", 55)},
		"64":            {"us-east", strings.Repeat("a", 56), "us-east--" + strings.Repeat("a", 37) + "-esk8l3en1oq2bjf0"},
		"dash at cut":   {"us-east", strings.Repeat("a", 36) + "-" + strings.Repeat("b", 20), "us-east--" + strings.Repeat("a", 36) + "-vbfo8l51oqo21kbk"},
		"longest names": {strings.Repeat("b", 40), strings.Repeat("a", 63), strings.Repeat("b", 40) + "--aaaa-0ngqhtdg4rckqs6j"},
	} {
		got := ServiceName(tc.backend, Key{"team", tc.service})
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if errs := validation.IsDNS1035Label(got); len(errs) > 0 {
			t.Errorf("%s: %q: %v", name, got, errs)
		}
	}
}

func TestSliceName(t *testing.T) {
	long := strings.Repeat("a", 220) + "." + strings.Repeat("b", 20)
	for _, slice := range []string{"web-abc", strings.Repeat("a", 245), strings.Repeat("a", 246), long, "a" + long, strings.Repeat("a.", 126) + "a"} {
		for _, backend := range []string{"us-east", strings.Repeat("b", 40)} {
			if errs := validation.IsDNS1123Subdomain(SliceName(backend, "team", slice)); len(errs) > 0 {
				t.Errorf("%s: %v", slice, errs)
			}
		}
	}
}

// Each of these pairs would share a name without the dash or the hash over the whole identity.
func TestNamesAreInjective(t *testing.T) {
	long := strings.Repeat("a", 60)
	for name, tc := range map[string]struct{ backendA, a, backendB, b string }{
		"cut":            {"east", long + "b", "east", long + "c"},
		"dash at cut":    {"east", strings.Repeat("a", 39) + "-" + long[:20], "east", strings.Repeat("a", 39) + long[:21]},
		"hashed, plain":  {"east", long, "east", strings.TrimPrefix(ServiceName("east", Key{"team", long}), "east--")},
		"other backends": {"prod", "us-web", "produs", "web"},
	} {
		if x, y := ServiceName(tc.backendA, Key{"team", tc.a}), ServiceName(tc.backendB, Key{"team", tc.b}); x == y {
			t.Errorf("%s: both are %q", name, x)
		}
	}
	if ServiceName("east", Key{"a", long}) == ServiceName("east", Key{"b", long}) {
		t.Error("the namespace isn't hashed")
	}
}

func TestAmbiguous(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"prod", "prod"}:       true,
		{"prod", "prod-us"}:    true,
		{"prod-us", "prod"}:    true,
		{"prod", "produs"}:     false,
		{"prod-eu", "prod-us"}: false,
		{"", "prod"}:           false,
	} {
		if got := Ambiguous(pair[0], pair[1]); got != want {
			t.Errorf("%q: got %t", pair, got)
		}
	}
}

func TestOwner(t *testing.T) {
	o, _ := east.Desired(web())
	for name, tc := range map[string]struct {
		change func(metav1.Object)
		ok     bool
	}{
		"ours":              {func(metav1.Object) {}, true},
		"no label":          {func(o metav1.Object) { o.SetLabels(nil) }, false},
		"other backend":     {func(o metav1.Object) { o.SetLabels(map[string]string{LabelBackend: "us-west"}) }, false},
		"no annotation":     {func(o metav1.Object) { o.SetAnnotations(nil) }, false},
		"no service":        {func(o metav1.Object) { o.SetAnnotations(map[string]string{AnnotationSource: "us-east/team"}) }, false},
		"too many parts":    {func(o metav1.Object) { o.SetAnnotations(map[string]string{AnnotationSource: "us-east/team/web/x"}) }, false},
		"other namespace":   {func(o metav1.Object) { o.SetNamespace("other") }, false},
		"backend is a path": {func(o metav1.Object) { o.SetAnnotations(map[string]string{AnnotationSource: "/team/web"}) }, false},
	} {
		for _, object := range []metav1.Object{o.Service.DeepCopy(), o.Slices[0].DeepCopy()} {
			tc.change(object)
			backend, k, ok := Owner(object)
			if ok != tc.ok || ok && (backend != "us-east" || k != web().Key) {
				t.Errorf("%s: %T: got %q %v %t", name, object, backend, k, ok)
			}
		}
	}
	renamed := o.Service.DeepCopy()
	renamed.Name = "mine"
	if _, _, ok := Owner(renamed); ok {
		t.Error("a Service of another name is ours")
	}
}

func FuzzNames(f *testing.F) {
	long := strings.Repeat("a", 63)
	f.Add("east", "a", long, "east", "b", long)
	f.Add("prod", "a", "us-web", "prod-us", "a", "web")
	f.Add("a", "n", "-x", "a-", "n", "x")
	f.Add("a", "n", strings.Repeat("a.", 126)+"b", "a", "n", strings.Repeat("a.", 126)+"c")
	f.Fuzz(func(t *testing.T, backendA, nsA, a, backendB, nsB, b string) {
		for _, backend := range []string{backendA, backendB} {
			if len(validation.IsDNS1035Label(backend)) > 0 || len(backend) > MaxBackend {
				t.Skip()
			}
		}
		same := backendA == backendB && nsA == nsB && a == b
		if backendA != backendB && Ambiguous(backendA, backendB) {
			t.Skip()
		}
		if len(validation.IsDNS1123Label(a)) == 0 && len(validation.IsDNS1123Label(b)) == 0 {
			x, y := ServiceName(backendA, Key{nsA, a}), ServiceName(backendB, Key{nsB, b})
			if nsA == nsB && (x == y) != same {
				t.Errorf("%q and %q", x, y)
			}
			if errs := validation.IsDNS1035Label(x); len(errs) > 0 {
				t.Errorf("%q: %v", x, errs)
			}
		}
		if len(validation.IsDNS1123Subdomain(a)) == 0 && len(validation.IsDNS1123Subdomain(b)) == 0 {
			x, y := SliceName(backendA, nsA, a), SliceName(backendB, nsB, b)
			if nsA == nsB && (x == y) != same {
				t.Errorf("%q and %q", x, y)
			}
			if errs := validation.IsDNS1123Subdomain(x); len(errs) > 0 {
				t.Errorf("%q: %v", x, errs)
			}
		}
	})
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{"", "a", "-a", "a-", "a.b", "a..b", "a.-b", "a-.b", ".a", "a.", "A", "a/b", "a.b/C_d", "a/b/c", "/a", "a/", "ä", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, tc := range map[string]struct {
			got  bool
			want []string
		}{
			"label":          {isDNSLabel(s), validation.IsDNS1123Label(s)},
			"subdomain":      {isDNSSubdomain(s), validation.IsDNS1123Subdomain(s)},
			"qualified name": {isQualifiedName(s), validation.IsQualifiedName(s)},
			"label value":    {isLabelValue(s), validation.IsValidLabelValue(s)},
		} {
			if tc.got != (len(tc.want) == 0) {
				t.Errorf("%s %q: got %t, want %v", name, s, tc.got, tc.want)
			}
		}
	})
}
