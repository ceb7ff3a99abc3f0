package discovery

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/mirror"
)

var web = mirror.Key{Namespace: "team-a", Name: "web"}

func ownedMeta(name, uid, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: web.Namespace, Name: name, UID: types.UID(uid), ResourceVersion: version,
		Labels:      map[string]string{mirror.LabelBackend: "us-east", mirror.LabelService: web.Name},
		Annotations: map[string]string{mirror.AnnotationSource: "us-east/team-a/web"},
	}
}

func ownedService(uid, version string) *corev1.Service {
	return &corev1.Service{ObjectMeta: ownedMeta("us-east-web", uid, version)}
}

func ownedSlice(uid, version string, endpoints int) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: ownedMeta("us-east-web-1", uid, version),
		Endpoints:  make([]discoveryv1.Endpoint, endpoints),
	}
}

// view is a central view whose changes are recorded.
func view() (*central, *[]mirror.Key) {
	var changed []mirror.Key
	c := newCentral(nil, "us-east", func(_ bool, keys ...mirror.Key) { changed = append(changed, keys...) })
	return c, &changed
}

func serviceStore(c *central) *centralStore[*corev1.Service] {
	return &centralStore[*corev1.Service]{c: c, kind: "services", trim: mirror.TrimService, objects: c.services}
}

func sliceStore(c *central) *centralStore[*discoveryv1.EndpointSlice] {
	return &centralStore[*discoveryv1.EndpointSlice]{c: c, kind: "endpointslices", trim: mirror.TrimSlice, objects: c.slices}
}

func TestCentralTakesTheNewer(t *testing.T) {
	for name, tc := range map[string]struct {
		known, next *corev1.Service
		want        string
		news        bool
	}{
		"first":                    {next: ownedService("a", "5"), want: "5", news: true},
		"later":                    {known: ownedService("a", "5"), next: ownedService("a", "10"), want: "10", news: true},
		"the same, from the watch": {known: ownedService("a", "5"), next: ownedService("a", "5"), want: "5"},
		"earlier, from the watch":  {known: ownedService("a", "10"), next: ownedService("a", "9"), want: "10"},
		"another object, earlier":  {known: ownedService("a", "10"), next: ownedService("b", "9"), want: "9", news: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, changed := view()
			if tc.known != nil {
				c.Put(tc.known)
			}
			if err := serviceStore(c).Update(tc.next); err != nil {
				t.Fatal(err)
			}
			if got := c.Objects(web).Service.ResourceVersion; got != tc.want {
				t.Errorf("holds version %s, want %s", got, tc.want)
			}
			if (len(*changed) > 0) != tc.news {
				t.Errorf("changed keys %v", *changed)
			}
		})
	}
}

func TestCentralForgetsWhatIsNoLongerOurs(t *testing.T) {
	c, changed := view()
	c.Put(ownedService("a", "5"))
	disowned := ownedService("a", "6")
	delete(disowned.Annotations, mirror.AnnotationSource)
	if err := serviceStore(c).Update(disowned); err != nil {
		t.Fatal(err)
	}
	if c.Objects(web).Service != nil {
		t.Error("a Service without our annotation is still held as ours")
	}
	foreign := ownedService("b", "7")
	foreign.Labels[mirror.LabelBackend] = "us-west"
	c.Put(foreign)
	if len(c.Keys()) != 0 {
		t.Errorf("another upstream's Service is held: %v", c.Keys())
	}
	_ = changed
}

func TestCentralDeletion(t *testing.T) {
	c, changed := view()
	c.Put(ownedService("b", "9"))
	if err := serviceStore(c).Delete(ownedService("a", "8")); err != nil {
		t.Fatal(err)
	}
	if c.Objects(web).Service == nil || len(*changed) != 0 {
		t.Error("the end of an earlier object of the name took the present one away")
	}
	if err := serviceStore(c).Delete(ownedService("b", "10")); err != nil {
		t.Fatal(err)
	}
	if len(c.Keys()) != 0 || len(*changed) != 1 {
		t.Errorf("keys %v, changed %v", c.Keys(), *changed)
	}
}

func TestCentralReplace(t *testing.T) {
	c, changed := view()
	c.Put(ownedService("a", "5"))
	c.Put(ownedSlice("s", "6", 3))
	if _, endpoints := c.Counts(); endpoints != 3 {
		t.Errorf("%d endpoints, want 3", endpoints)
	}
	if err := serviceStore(c).Replace([]any{ownedService("a", "5")}, "10"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.complete:
		t.Error("complete after one of two listings")
	default:
	}
	if err := sliceStore(c).Replace(nil, "10"); err != nil {
		t.Fatal(err)
	}
	<-c.complete
	if services, endpoints := c.Counts(); services != 1 || endpoints != 0 {
		t.Errorf("%d Services and %d endpoints, want 1 and 0", services, endpoints)
	}
	if len(*changed) != 1 || (*changed)[0] != web {
		t.Errorf("changed %v, want %v for the lost slice alone", *changed, web)
	}
}
