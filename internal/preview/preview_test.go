package preview_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/preview"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func service(namespace, name string, ready int) *mirror.Service {
	s := &mirror.Service{
		Key:   mirror.Key{Namespace: namespace, Name: name},
		Ports: []mirror.Port{{Name: "http", Number: 80, Protocol: "TCP"}},
		Slices: []mirror.Slice{{
			Name: name + "-1", AddressType: discoveryv1.AddressTypeIPv4, Ports: []mirror.Port{{Name: "http", Number: 8080, Protocol: "TCP"}},
		}},
	}
	for i := range ready {
		s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, mirror.Endpoint{Addresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}, Ready: true, Serving: true})
	}
	return s
}

func many(n, ready int) (all []*mirror.Service) {
	for i := range n {
		all = append(all, service("team-a", fmt.Sprintf("web-%02d", i), ready))
	}
	return all
}

// world is an upstream and a central cluster.
type world struct {
	cluster *centraltest.Cluster
	source  *upstreamtest.Source
	uc      *v1alpha1.UpstreamCluster
	broken  error // of making a Source
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cluster: centraltest.New(t), source: upstreamtest.NewSource("alpha"), uc: &v1alpha1.UpstreamCluster{}}
	w.source.Begins(upstream.Observer.Complete)
	w.uc.Name, w.uc.Namespace = "us-east", "gimbal-discovery"
	w.uc.Spec.Kubernetes = &v1alpha1.KubernetesUpstream{KubeconfigSecret: v1alpha1.SecretKey{Name: "us-east"}}
	w.cluster.AddNamespaces(t, "team-a", "gimbal-discovery")
	w.cluster.Add(t, w.uc.DeepCopy(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "gimbal-discovery", Name: "us-east"}, Data: map[string][]byte{"kubeconfig": []byte("x")},
	})
	return w
}

// seed has the central cluster hold what is desired of Services.
func (w *world) seed(t *testing.T, services ...*mirror.Service) {
	t.Helper()
	for _, said := range services {
		o, _ := mirror.Rules{Backend: "us-east"}.Desired(said)
		o.Service.UID = types.UID("of-" + said.Name)
		w.cluster.Add(t, o.Service)
		for _, es := range o.Slices {
			es.OwnerReferences[0].UID = o.Service.UID
			w.cluster.Add(t, es)
		}
	}
}

func (w *world) preview(ctx context.Context, t *testing.T) (*preview.Preview, error) {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	reader, err := client.New(w.cluster.Config(), client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	kind := upstreamtest.Kind{NewSource: func() (upstream.Source, error) { return w.source, w.broken }}
	return preview.New(ctx, preview.Options{
		Reader: reader, Client: w.cluster.Client(t), Upstream: w.uc,
		Policy: accept.Policy{Kinds: []upstream.Kind{kind}}, Logger: slog.New(slog.DiscardHandler),
	})
}

func TestPreview(t *testing.T) {
	labelled := service("team-a", "web", 1)
	labelled.Labels = map[string]string{"app": "web"}
	odd := service("team-a", "web", 1)
	odd.Slices[0].Endpoints[0].Addresses = []string{"127.0.0.1"}
	unsettled := service("team-a", "web", 1)
	unsettled.Unsettled = true
	sliced := service("team-a", "web", 1)
	for i := range 6 {
		more := sliced.Slices[0]
		more.Name = fmt.Sprintf("web-more-%d", i)
		sliced.Slices = append(sliced.Slices, more)
	}
	foreign := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "us-east-web"}}
	web := service("team-a", "web", 1)
	for name, tc := range map[string]struct {
		said, central []*mirror.Service
		foreign       *corev1.Service
		steps         string
		detail        string
		unchanged     int
	}{
		"nothing":               {},
		"new":                   {said: []*mirror.Service{web}, steps: "create", detail: "create Service; create slice us-east-web-1"},
		"as it is":              {said: []*mirror.Service{web}, central: []*mirror.Service{web}, unchanged: 1},
		"changed":               {said: []*mirror.Service{labelled}, central: []*mirror.Service{web}, steps: "change", detail: "update Service (labels)"},
		"endpoints changed":     {said: []*mirror.Service{service("team-a", "web", 3)}, central: []*mirror.Service{web}, steps: "change", detail: "endpoints: +2"},
		"much":                  {said: []*mirror.Service{sliced}, steps: "create", detail: "and 4 more"},
		"a slice less":          {said: []*mirror.Service{web}, central: []*mirror.Service{sliced}, steps: "change", detail: "delete slice us-east-web-more-0"},
		"gone":                  {central: []*mirror.Service{web}, steps: "delete", detail: "delete Service"},
		"without a namespace":   {said: []*mirror.Service{service("team-z", "web", 1)}, steps: "wait", detail: "kubectl create namespace team-z"},
		"refused in part":       {said: []*mirror.Service{odd}, steps: "create refuse", detail: "127.0.0.1"},
		"in the middle, known":  {said: []*mirror.Service{unsettled}, central: []*mirror.Service{web}, unchanged: 1},
		"in the middle, new":    {said: []*mirror.Service{unsettled}},
		"the name is a foreign": {said: []*mirror.Service{web}, foreign: foreign, steps: "refuse"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.source.Put(tc.said...)
			w.seed(t, tc.central...)
			if tc.foreign != nil {
				w.cluster.Add(t, tc.foreign.DeepCopy())
			}
			p, err := w.preview(t.Context(), t)
			if err != nil {
				t.Fatal(err)
			}
			var steps, details []string
			for _, s := range p.Steps {
				steps, details = append(steps, string(s.Action)), append(details, s.Detail)
				if s.Service != "web" || s.Central != "us-east-web" {
					t.Errorf("step %+v", s)
				}
			}
			if got := strings.Join(steps, " "); got != tc.steps || p.Unchanged != tc.unchanged || p.Note != "" || !strings.Contains(strings.Join(details, " "), tc.detail) {
				t.Errorf("steps %q (%q), %d unchanged, note %q; want %q (%q), %d", got, details, p.Unchanged, p.Note, tc.steps, tc.detail, tc.unchanged)
			}
			if writes := w.cluster.Writes(); len(writes) > 0 {
				t.Errorf("a preview wrote: %v", writes)
			}
		})
	}
}

func TestPlanHoldsWhereTheAgentHolds(t *testing.T) {
	for name, tc := range map[string]struct {
		said   []*mirror.Service
		spec   v1alpha1.EndpointsGuard
		status v1alpha1.UpstreamClusterStatus
		steps  map[preview.Action]int
	}{
		"few go":                       {said: many(20, 1)[:18], steps: map[preview.Action]int{preview.Delete: 2}},
		"many go":                      {said: many(20, 1)[:13], steps: map[preview.Action]int{preview.Hold: 7}},
		"few go while a hold is on":    {said: many(20, 1)[:18], status: v1alpha1.UpstreamClusterStatus{HeldDeletions: 9}, steps: map[preview.Action]int{preview.Hold: 2}},
		"many lose endpoints, is told": {said: append(many(20, 0)[:13], many(20, 1)[13:]...), steps: map[preview.Action]int{preview.Change: 13}},
		"many lose endpoints, is held": {said: append(many(20, 0)[:13], many(20, 1)[13:]...), spec: v1alpha1.EndpointsHold, steps: map[preview.Action]int{preview.Hold: 13}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.seed(t, many(20, 1)...)
			w.source.Put(tc.said...)
			w.uc.Spec.DeletionGuard.Endpoints, w.uc.Status = tc.spec, tc.status
			p, err := w.preview(t.Context(), t)
			if err != nil {
				t.Fatal(err)
			}
			got := map[preview.Action]int{}
			for _, s := range p.Steps {
				got[s.Action]++
				if s.Action == preview.Hold && (s.Reason != "DeletionGuard" || s.Detail == "") {
					t.Errorf("step %+v", s)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.steps) {
				t.Errorf("steps %v, want %v", got, tc.steps)
			}
		})
	}
}

func TestAServiceThatIsHeldIsChangedElsewhere(t *testing.T) {
	w := newWorld(t)
	w.seed(t, many(20, 1)...)
	said := many(20, 0)
	for _, s := range said {
		s.Labels = map[string]string{"app": "web"}
	}
	w.source.Put(said...)
	w.uc.Spec.DeletionGuard.Endpoints = v1alpha1.EndpointsHold
	p, err := w.preview(t.Context(), t)
	if err != nil || len(p.Steps) != 40 || !slices.ContainsFunc(p.Steps, func(s preview.Step) bool { return s.Action == preview.Change }) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAPreviewOfAnotherClusterSaysSo(t *testing.T) {
	w := newWorld(t)
	w.source.Put(service("team-a", "web", 1))
	w.uc.Status.Identity = "beta"
	p, err := w.preview(t.Context(), t)
	if err != nil || len(p.Steps) != 0 || !strings.Contains(p.Note, "beta") || !strings.Contains(p.Note, "alpha") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestWhatCannotBePreviewed(t *testing.T) {
	down := &upstream.Error{Reason: upstream.ReasonUnreachable, Err: errors.New("connection refused"), Hint: "start it"}
	for name, tc := range map[string]struct {
		change func(*testing.T, *world)
		fault  string // a verb and a resource that the central cluster doesn't answer
		says   string
	}{
		"no Secret":             {change: func(_ *testing.T, w *world) { w.cluster.Remove("secrets", "gimbal-discovery", "us-east") }, says: "Secret us-east doesn't exist"},
		"no kind":               {change: func(_ *testing.T, w *world) { w.uc.Spec.Kubernetes = nil }, says: "spec.kubernetes"},
		"no client":             {change: func(_ *testing.T, w *world) { w.broken = errors.New("no CA") }, says: "making the client of upstream us-east: no CA"},
		"no upstream's contact": {change: func(_ *testing.T, w *world) { w.source.Begins(func(o upstream.Observer) { o.Failed(down) }) }, says: "connection refused: start it"},
		"no upstream's answer":  {change: func(_ *testing.T, w *world) { w.source.Begins(nil) }, says: "deadline"},
		"no upstreams":          {fault: "list upstreamclusters", says: "listing UpstreamClusters"},
		"no secrets":            {fault: "get secrets", says: "reading Secret"},
		"no nodes":              {fault: "list nodes", says: "address ranges"},
		"no Services":           {fault: "list services", says: "listing the central cluster"},
		"no namespaces":         {fault: "list namespaces", says: "namespaces"},
		"no single lookup":      {fault: "get services", says: "reading Service team-a/us-east-web"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.source.Put(service("team-a", "web", 1))
			if tc.change != nil {
				tc.change(t, w)
			}
			w.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
				if r.Verb+" "+r.Resource == tc.fault {
					return apierrors.NewInternalError(errors.New("etcd has no leader"))
				}
				return nil
			})
			limit := upstreamtest.Limit
			if strings.HasPrefix(name, "no upstream's") {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if p, err := w.preview(ctx, t); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v, %v; want an error that says %q", p, err, tc.says)
			}
		})
	}
}
