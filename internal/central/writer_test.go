package central_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// said is the upstream's Service with slices of so many endpoints.
func said(endpoints ...int) *mirror.Service {
	s := &mirror.Service{Key: web(), Ports: []mirror.Port{{Name: "http", Number: 80, Protocol: "TCP"}}}
	for i, n := range endpoints {
		es := mirror.Slice{
			Name: fmt.Sprintf("web-%d", i+1), AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []mirror.Port{{Name: "http", Number: 8080, Protocol: "TCP"}},
		}
		for j := range n {
			es.Endpoints = append(es.Endpoints, mirror.Endpoint{Addresses: []string{fmt.Sprintf("10.0.%d.%d", i, j+1)}, Ready: true, Serving: true})
		}
		s.Slices = append(s.Slices, es)
	}
	return s
}

// writing is a central cluster, a view of it, and a Writer.
type writing struct {
	*central.Writer
	cluster *centraltest.Cluster
	client  kubernetes.Interface
	view    *watched
	leads   bool
	counts  map[string]int
}

func newWriting(t *testing.T, before *mirror.Service) *writing {
	t.Helper()
	w := &writing{cluster: centraltest.New(t), leads: true, counts: map[string]int{}}
	w.cluster.AddNamespaces(t, "team-a")
	w.client = w.cluster.Client(t)
	w.view = newView(w.client)
	w.Writer = central.NewWriter(central.WriterOptions{
		Client: w.client, View: w.view.View, Owner: central.Upstream("us-east"), Leads: func() bool { return w.leads },
		Count: func(resource, verb, result string) { w.counts[resource+" "+verb+" "+result]++ },
	})
	if before != nil {
		if r := w.apply(t, before, central.ApplyOptions{}); r.Err != nil || len(r.Refused) > 0 {
			t.Fatalf("setting up: %+v", r)
		}
		w.cluster.Forget()
		clear(w.counts)
	}
	return w
}

// apply carries out what makes the view's objects those of a Service, or with nil none.
func (w *writing) apply(t *testing.T, s *mirror.Service, o central.ApplyOptions) central.Result {
	t.Helper()
	var desired mirror.Objects
	if s != nil {
		var refused []mirror.Refusal
		if desired, refused = (mirror.Rules{Backend: "us-east"}).Desired(s); len(refused) > 0 {
			t.Fatalf("refused: %v", refused)
		}
	}
	return w.Apply(t.Context(), mirror.Plan(desired, w.view.Objects(web())), o)
}

// holds returns the number of endpoints that the cluster has in each slice.
func (w *writing) holds(t *testing.T) map[string]int {
	t.Helper()
	list, err := w.client.DiscoveryV1().EndpointSlices("team-a").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	holds := map[string]int{}
	for i := range list.Items {
		holds[list.Items[i].Name] = len(list.Items[i].Endpoints)
	}
	return holds
}

// refuse has requests refused by an admission policy.
func refuse(is func(centraltest.Request) bool) func(context.Context, centraltest.Request) error {
	return func(_ context.Context, r centraltest.Request) error {
		if is(r) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: r.Resource}, r.Name, errors.New("exceeded quota"))
		}
		return nil
	}
}

// is returns what matches requests of that verb and resource.
func is(verb, resource string) func(centraltest.Request) bool {
	return func(r centraltest.Request) bool { return r.Verb == verb && r.Resource == resource }
}

func labelled(s *mirror.Service) *mirror.Service {
	s.Labels = map[string]string{"app": "web"}
	return s
}

func TestARefusedServiceWriteDoesNotHoldItsSlicesBack(t *testing.T) {
	w := newWriting(t, said(1, 1))
	w.cluster.Inject(refuse(is("patch", "services")))
	r := w.apply(t, labelled(said(3)), central.ApplyOptions{})
	if r.Err != nil || len(r.Refused) != 1 {
		t.Errorf("result %+v, want one refusal", r)
	}
	if got := w.holds(t); len(got) != 1 || got["us-east-web-1"] != 3 {
		t.Errorf("slices %v, want the first with 3 endpoints alone", got)
	}
	if w.counts["services update error"] != 1 || w.counts["endpointslices update ok"] != 1 {
		t.Errorf("counted %v", w.counts)
	}
}

func TestEndpointsGoneUpstreamLeaveThoughAnotherObjectIsRefused(t *testing.T) {
	w := newWriting(t, said(3, 1))
	w.cluster.Inject(refuse(is("create", "endpointslices")))
	next := said(1, 0, 2)
	next.Slices = slices.Delete(next.Slices, 1, 2)
	r := w.apply(t, next, central.ApplyOptions{})
	if r.Err != nil || len(r.Refused) != 1 {
		t.Errorf("result %+v, want one refusal", r)
	}
	if got := w.holds(t); len(got) != 1 || got["us-east-web-1"] != 1 {
		t.Errorf("slices %v, want the first with 1 endpoint alone", got)
	}
}

func TestDeletionsWaitForAdditionsThatFailForNow(t *testing.T) {
	w := newWriting(t, said(1, 1))
	w.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
		if r.Verb == "create" {
			return apierrors.NewInternalError(errors.New("etcd has no leader"))
		}
		return nil
	})
	next := said(1, 0, 1)
	next.Slices = slices.Delete(next.Slices, 1, 2)
	r := w.apply(t, next, central.ApplyOptions{})
	if r.Err == nil || len(w.holds(t)) != 2 {
		t.Errorf("result %+v, slices %v: want an error and both slices", r, w.holds(t))
	}
	w.cluster.Inject(nil)
	r = w.apply(t, next, central.ApplyOptions{})
	if got := w.holds(t); r.Err != nil || len(got) != 2 || got["us-east-web-3"] != 1 {
		t.Errorf("result %+v, slices %v", r, got)
	}
}

// A webhook that is down refuses nothing for good, but may stay so for long.
func TestEndpointsGoneUpstreamLeaveThoughTheServiceCannotBeUpdated(t *testing.T) {
	renamed := func(s *mirror.Service) *mirror.Service {
		s.Ports[0].Name, s.Slices[0].Ports[0].Name = "web", "web"
		return s
	}
	for name, tc := range map[string]struct {
		next   *mirror.Service
		slices int
	}{
		"labels": {labelled(said(1)), 1},
		"ports":  {renamed(said(1)), 2}, // whose endpoints have other ports: what is there has to do
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriting(t, said(1, 1))
			w.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
				if is("patch", "services")(r) {
					return apierrors.NewInternalError(errors.New("failed calling webhook"))
				}
				return nil
			})
			r := w.apply(t, tc.next, central.ApplyOptions{})
			if got := w.holds(t); r.Err == nil || len(got) != tc.slices {
				t.Errorf("result %+v, slices %v, want an error and %d slices", r, got, tc.slices)
			}
		})
	}
}

func TestSlicesAreNotMadeWithoutTheirService(t *testing.T) {
	w := newWriting(t, nil)
	w.cluster.Inject(refuse(is("create", "services")))
	if r := w.apply(t, said(1), central.ApplyOptions{}); len(r.Refused) != 1 || len(w.holds(t)) != 0 {
		t.Errorf("result %+v, slices %v", r, w.holds(t))
	}
	w.cluster.Inject(nil)
	if r := w.apply(t, said(1), central.ApplyOptions{}); r.Err != nil || len(r.Refused) > 0 {
		t.Fatalf("result %+v", r)
	}
	es, err := w.client.DiscoveryV1().EndpointSlices("team-a").Get(t.Context(), "us-east-web-1", metav1.GetOptions{})
	if err != nil || len(es.OwnerReferences) != 1 || es.OwnerReferences[0].UID != w.view.Objects(web()).Service.UID {
		t.Errorf("the slice's owner: %+v, %v", es, err)
	}
}

func TestABrokenConnectionEndsAnApply(t *testing.T) {
	w := newWriting(t, said(1))
	w.cluster.Inject(func(context.Context, centraltest.Request) error { return errors.New("break") })
	r := w.apply(t, labelled(said(2, 1)), central.ApplyOptions{})
	if r.Err == nil || errors.Is(r.Err, central.ErrBehind) || len(w.cluster.Writes()) > 1 {
		t.Errorf("result %+v after %v", r, w.cluster.Writes())
	}
}

// A replica that can't know whether it still holds the Lease writes nothing.
func TestNothingIsWrittenWithoutTheLease(t *testing.T) {
	w := newWriting(t, nil)
	w.leads = false
	if r := w.apply(t, said(1), central.ApplyOptions{}); !errors.Is(r.Err, central.ErrNotLeading) || len(w.cluster.Writes()) > 0 {
		t.Errorf("result %+v, writes %v", r, w.cluster.Writes())
	}
}

func TestWritesOnAViewThatIsBehind(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(*testing.T, *writing)
		next      *mirror.Service
		behind    bool
		counted   string
	}{
		"the Service was changed": {func(t *testing.T, w *writing) {
			s := w.view.Objects(web()).Service.DeepCopy()
			s.Labels["x"] = "y"
			w.cluster.Add(t, s)
		}, labelled(said(1)), true, "services update conflict"},
		"the Service went": {func(_ *testing.T, w *writing) { w.cluster.Remove("services", "team-a", "us-east-web") }, labelled(said(1)), true, "services update conflict"},
		"the slice went":   {func(_ *testing.T, w *writing) { w.cluster.Remove("endpointslices", "team-a", "us-east-web-1") }, said(2), true, "endpointslices update conflict"},
		"a slice to delete went": {
			func(_ *testing.T, w *writing) { w.cluster.Remove("endpointslices", "team-a", "us-east-web-1") }, said(), false, "endpointslices delete ok",
		},
		"all to delete went": {func(_ *testing.T, w *writing) {
			w.cluster.Remove("services", "team-a", "us-east-web")
			w.cluster.Remove("endpointslices", "team-a", "us-east-web-1")
		}, nil, false, "services delete ok"},
		"a slice to delete was changed": {func(t *testing.T, w *writing) {
			es := w.view.Objects(web()).Slices[0].DeepCopy()
			es.Endpoints = nil
			w.cluster.Add(t, es)
		}, said(), true, "endpointslices delete conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriting(t, said(1))
			tc.meanwhile(t, w)
			r := w.apply(t, tc.next, central.ApplyOptions{})
			if errors.Is(r.Err, central.ErrBehind) != tc.behind || len(r.Refused) > 0 || w.counts[tc.counted] != 1 {
				t.Errorf("result %+v, counted %v", r, w.counts)
			}
		})
	}
}

func TestANameThatIsTaken(t *testing.T) {
	foreign := func() *corev1.Service {
		s := ownedService("", "")
		s.Labels, s.Annotations = nil, nil
		return s
	}
	foreignSlice := ownedSlice("", "")
	foreignSlice.Annotations = nil
	for name, tc := range map[string]struct {
		taken   []*corev1.Service
		slice   *discoveryv1.EndpointSlice
		careful bool
		refused bool
		creates int
	}{
		"by a foreign Service":               {taken: []*corev1.Service{foreign()}, refused: true, creates: 1},
		"by a foreign Service, as is known":  {taken: []*corev1.Service{foreign()}, careful: true, refused: true},
		"by one of ours":                     {taken: []*corev1.Service{ownedService("", "")}, creates: 1},
		"by one of ours, where one looks":    {taken: []*corev1.Service{ownedService("", "")}, careful: true},
		"by a foreign slice":                 {slice: foreignSlice, refused: true, creates: 2},
		"by a foreign slice, as is known":    {slice: foreignSlice, careful: true, refused: true, creates: 1},
		"by a slice of ours":                 {slice: ownedSlice("", ""), creates: 2},
		"no longer, though it was until now": {careful: true, creates: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriting(t, nil)
			for _, s := range tc.taken {
				w.cluster.Add(t, s.DeepCopy())
			}
			if tc.slice != nil {
				w.cluster.Add(t, tc.slice.DeepCopy())
			}
			r := w.apply(t, said(1), central.ApplyOptions{Careful: tc.careful})
			if got := len(r.Refused) == 1 && errors.Is(r.Refused[0].Err, central.ErrTaken); got != tc.refused {
				t.Errorf("result %+v, want a refusal: %v", r, tc.refused)
			}
			if got := len(w.cluster.Writes()); got != tc.creates {
				t.Errorf("writes %v, want %d", w.cluster.Writes(), tc.creates)
			}
			if ours := !tc.refused && (tc.taken != nil || tc.slice != nil); ours != errors.Is(r.Err, central.ErrBehind) {
				t.Errorf("error %v", r.Err)
			} else if ours && len(w.view.Keys()) != 1 {
				t.Error("what was found isn't in the view")
			}
		})
	}
}

func TestWhatTheCentralClusterRefuses(t *testing.T) {
	terminating := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "us-east-web", errors.New("the namespace is ending"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]struct {
		err     error
		refused bool
	}{
		"invalid":          {apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "us-east-web", nil), true},
		"a bad request":    {apierrors.NewBadRequest("no"), true},
		"too large":        {apierrors.NewRequestEntityTooLargeError("no"), true},
		"etcd's limit":     {apierrors.NewInternalError(errors.New("etcdserver: request is too large")), true},
		"etcd's client's":  {apierrors.NewInternalError(errors.New("trying to send message larger than max (3000000 vs. 2097152)")), true},
		"forbidden":        {apierrors.NewForbidden(schema.GroupResource{}, "", nil), true},
		"terminating":      {terminating, false},
		"too many":         {apierrors.NewTooManyRequests("later", 0), false},
		"an outage within": {apierrors.NewInternalError(errors.New("etcd")), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriting(t, nil)
			w.cluster.Inject(func(_ context.Context, r centraltest.Request) error {
				if r.Verb == "create" {
					return tc.err
				}
				return nil
			})
			if r := w.apply(t, said(1), central.ApplyOptions{}); (len(r.Refused) == 1) != tc.refused || (r.Err == nil) != tc.refused {
				t.Errorf("result %+v, want a refusal: %v", r, tc.refused)
			}
		})
	}
}

// A policy that changes objects on their way in: what it has answered is as it should be.
func TestAnObjectThatAPolicyMutatesIsNotWrittenAgain(t *testing.T) {
	w := newWriting(t, nil)
	w.cluster.Mutate(mutating)
	if r := w.apply(t, said(1), central.ApplyOptions{}); r.Err != nil {
		t.Fatalf("result %+v", r)
	}
	w.cluster.Forget()
	w.apply(t, said(1), central.ApplyOptions{})
	if writes := w.cluster.Writes(); len(writes) > 0 {
		t.Errorf("written again: %v", writes)
	}
	for name, tc := range map[string]struct {
		next   *mirror.Service
		fault  func(centraltest.Request) bool
		writes int
	}{
		"unchanged":                         {next: said(1)},
		"the slice changed":                 {next: said(2), writes: 1},
		"a webhook that refuses rehearsals": {next: said(1), fault: func(r centraltest.Request) bool { return r.DryRun }, writes: 2},
	} {
		t.Run(name, func(t *testing.T) {
			again := newView(w.client) // as after a restart
			run(t, again.View)
			w.view, w.Writer = again, central.NewWriter(central.WriterOptions{
				Client: w.client, View: again.View, Owner: central.Upstream("us-east"), Leads: func() bool { return true }, Count: func(_, _, _ string) {},
			})
			if tc.fault != nil {
				w.cluster.Inject(refuse(tc.fault))
			}
			w.cluster.Forget()
			for range 2 {
				if r := w.apply(t, tc.next, central.ApplyOptions{Rehearse: true}); r.Err != nil || len(r.Refused) > 0 {
					t.Errorf("result %+v", r)
				}
			}
			w.cluster.Inject(nil)
			if writes := w.cluster.Writes(); len(writes) != tc.writes {
				t.Errorf("writes %v, want %d", writes, tc.writes)
			}
			if tc.writes == 1 { // put back
				if r := w.apply(t, said(1), central.ApplyOptions{}); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		})
	}
}

func mutating(_ string, o *unstructured.Unstructured) {
	labels := o.GetLabels()
	labels["policy.example.com/seen"] = "yes"
	o.SetLabels(labels)
}
