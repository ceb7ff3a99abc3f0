package central_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func web() mirror.Key { return mirror.Key{Namespace: "team-a", Name: "web"} }

func ownedMeta(name, uid, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "team-a", Name: name, UID: types.UID(uid), ResourceVersion: version,
		Labels:      map[string]string{mirror.LabelBackend: "us-east", mirror.LabelService: "web"},
		Annotations: map[string]string{mirror.AnnotationSource: "us-east/team-a/web"},
	}
}

func ownedService(uid, version string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: ownedMeta("us-east-web", uid, version),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone},
	}
}

func ownedSlice(uid, version string, ready ...bool) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{ObjectMeta: ownedMeta("us-east-web-1", uid, version), AddressType: discoveryv1.AddressTypeIPv4}
	for i := range ready {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready[i]},
		})
	}
	return es
}

// watched is a View, and the keys that it has reported.
type watched struct {
	*central.View
	mu       sync.Mutex
	live     []mirror.Key
	relisted []mirror.Key
}

func newView(client kubernetes.Interface) *watched {
	w := &watched{}
	w.View = central.NewView(central.ViewOptions{
		Client: client, Owner: central.Upstream("us-east"),
		Update: func(relisted bool, change func() []mirror.Key) {
			keys := change()
			w.mu.Lock()
			defer w.mu.Unlock()
			if relisted {
				w.relisted = append(w.relisted, keys...)
			} else {
				w.live = append(w.live, keys...)
			}
		},
	})
	return w
}

// changed returns how many keys have been reported.
func (w *watched) changed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.live) + len(w.relisted)
}

// run runs a view until the test ends, and returns when it is complete.
func run(t *testing.T, v *central.View) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	upstreamtest.Eventually(t, "the view is complete", func() bool {
		select {
		case <-v.Complete():
			return true
		default:
			return false
		}
	})
}

func TestTheViewTakesTheNewer(t *testing.T) {
	for name, tc := range map[string]struct {
		known, next *corev1.Service
		want        string
	}{
		"first":                  {next: ownedService("a", "5"), want: "5"},
		"later":                  {known: ownedService("a", "5"), next: ownedService("a", "10"), want: "10"},
		"the same":               {known: ownedService("a", "5"), next: ownedService("a", "5"), want: "5"},
		"earlier":                {known: ownedService("a", "10"), next: ownedService("a", "9"), want: "10"},
		"another object,earlier": {known: ownedService("a", "10"), next: ownedService("b", "9"), want: "9"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newView(nil)
			if tc.known != nil {
				v.Put(tc.known)
			}
			v.Put(tc.next)
			if got := v.Objects(web()).Service.ResourceVersion; got != tc.want {
				t.Errorf("holds version %s, want %s", got, tc.want)
			}
		})
	}
}

func TestTheViewCounts(t *testing.T) {
	v := newView(nil)
	v.Put(ownedService("a", "1"))
	v.Put(ownedSlice("s", "2", true, true, false))
	steps := []struct {
		name                       string
		change                     func()
		services, endpoints, ready int
	}{
		{"as put", func() {}, 1, 3, 2},
		{"fewer are ready", func() { v.Put(ownedSlice("s", "3", true, false)) }, 1, 2, 1},
		{"the end of an earlier object of the name", func() { v.Drop(ownedSlice("x", "9")) }, 1, 2, 1},
		{"the slice's end", func() { v.Drop(ownedSlice("s", "9")) }, 1, 0, 0},
		{"the Service's end", func() { v.Drop(ownedService("a", "9")) }, 0, 0, 0},
		{"once more", func() { v.Drop(ownedService("a", "9")) }, 0, 0, 0},
	}
	for _, step := range steps {
		step.change()
		if s, e, r := v.Counts(); s != step.services || e != step.endpoints || r != step.ready {
			t.Errorf("%s: %d Services, %d endpoints, %d ready; want %d, %d, %d", step.name, s, e, r, step.services, step.endpoints, step.ready)
		}
		if has := v.Holding(web()); has.Service != (step.services > 0) || has.Ready != step.ready {
			t.Errorf("%s: holds %+v", step.name, has)
		}
	}
	if len(v.Keys()) != 0 {
		t.Errorf("keys %v of nothing", v.Keys())
	}
}

func TestTheViewFollowsTheCluster(t *testing.T) {
	cluster := centraltest.New(t)
	cluster.Add(t, ownedService("a", ""), ownedSlice("s", "", true))
	foreign := ownedService("f", "")
	foreign.Name, foreign.Labels = "foreign", nil
	cluster.Add(t, foreign)
	v := newView(cluster.Client(t))
	run(t, v.View)
	if services, endpoints, _ := v.Counts(); services != 1 || endpoints != 1 {
		t.Fatalf("%d Services, %d endpoints", services, endpoints)
	}
	cluster.Add(t, ownedSlice("s", "", true, true))
	upstreamtest.Eventually(t, "a change is seen", func() bool { return v.Holding(web()).Ready == 2 })
	cluster.Remove("endpointslices", "team-a", "us-east-web-1")
	upstreamtest.Eventually(t, "a deletion is seen", func() bool { return v.Holding(web()).Ready == 0 })

	disowned := ownedService("a", "")
	delete(disowned.Annotations, mirror.AnnotationSource)
	before := v.changed()
	cluster.Add(t, disowned)
	upstreamtest.Eventually(t, "a disowned Service is let go", func() bool { return len(v.Keys()) == 0 })
	if v.changed() == before {
		t.Error("the key of a disowned Service isn't reported")
	}
	moved := ownedService("a", "")
	cluster.Add(t, moved)
	upstreamtest.Eventually(t, "it is the owner's again", func() bool { return len(v.Keys()) == 1 })
}

// A slice that is another Service's from now on touches both.
func TestTheViewReportsBothKeysOfAnObjectThatMoves(t *testing.T) {
	v := newView(nil)
	v.Put(ownedSlice("s", "1", true))
	moved := ownedSlice("s", "2", true)
	moved.Annotations[mirror.AnnotationSource] = "us-east/team-a/api"
	v.Put(moved)
	api := mirror.Key{Namespace: "team-a", Name: "api"}
	if v.Holding(web()).Ready != 0 || v.Holding(api).Ready != 1 {
		t.Errorf("web holds %+v, api %+v", v.Holding(web()), v.Holding(api))
	}
}

func TestTheViewKeepsAnswers(t *testing.T) {
	v := newView(nil)
	v.Put(ownedService("a", "1"))
	v.Put(ownedSlice("s", "2", true))
	if v.Objects(web()).Answers != nil {
		t.Error("answers that nobody gave")
	}
	v.Answered("a", mirror.Answer{Sent: 1}, true)
	v.Answered("s", mirror.Answer{Sent: 2}, true)
	if got := v.Objects(web()).Answers; len(got) != 2 {
		t.Errorf("answers %v, want both", got)
	}
	v.Answered("s", mirror.Answer{}, false)
	if got := v.Objects(web()).Answers; len(got) != 1 || got["a"].Sent != 1 {
		t.Errorf("answers %v, want the Service's", got)
	}
	v.Put(ownedService("b", "3"))
	if got := v.Objects(web()).Answers; len(got) != 0 {
		t.Errorf("answers %v of an object that is another by now", got)
	}
	if v.Current(ownedService("", "")) == nil || v.Current(ownedSlice("", "")) == nil {
		t.Error("the view doesn't find its own objects")
	}
	v.Drop(ownedService("b", "3"))
	if v.Current(ownedService("", "")) != nil || v.Current(&corev1.Secret{}) != nil {
		t.Error("the view finds what it doesn't have")
	}
}

// Versions are lower after a restore: the listing is the truth all the same.
func TestARestoredCentralClusterIsListedAgain(t *testing.T) {
	cluster := centraltest.New(t)
	client := cluster.Client(t)
	cluster.Add(t, ownedService("a", ""), ownedSlice("s", "", true))
	backup := cluster.Backup()
	v := newView(client)
	run(t, v.View)
	cluster.Add(t, ownedSlice("s", "", true, true, true))
	for i := range 5 {
		cluster.AddNamespaces(t, fmt.Sprintf("ns-%d", i)) // time goes on
	}
	upstreamtest.Eventually(t, "the change is seen", func() bool { return v.Holding(web()).Ready == 3 })
	other := ownedSlice("z", "", true)
	other.Name = "us-east-web-2"
	cluster.Add(t, other)
	upstreamtest.Eventually(t, "the second slice is seen", func() bool { return v.Holding(web()).Ready == 4 })

	ctx, cancel := context.WithCancel(t.Context())
	clock, done := clocktesting.NewFakeClock(time.Now()), make(chan struct{})
	detector := central.NewRestoreDetector(client, clock, slog.New(slog.DiscardHandler), v.Relist)
	go func() { defer close(done); detector.Run(ctx) }()
	defer func() { cancel(); <-done }()
	looked := func() (n int) {
		for _, r := range cluster.Requests() {
			if r.Resource == "services" && r.Verb == "list" {
				n++
			}
		}
		return n
	}
	upstreamtest.Eventually(t, "the detector has its first answer", func() bool { clock.Step(time.Minute); return looked() > 2 })
	cluster.Restore(backup)
	upstreamtest.Eventually(t, "the view is as the backup", func() bool { clock.Step(time.Minute); return v.Holding(web()).Ready == 1 })
}
