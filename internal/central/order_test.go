package central

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// bench is a Writer with a view that holds what the cluster holds, and does not run.
type bench struct {
	*cluster
	view   *observed
	leads  bool
	writer *Writer

	countMu sync.Mutex
	counts  map[string]int
}

func newBench(objects ...runtime.Object) *bench {
	b := &bench{cluster: newCluster(), leads: true, counts: map[string]int{}}
	b.view = unfed(b.cluster)
	for _, o := range objects {
		b.view.Put(accessor(b.put(o)))
	}
	b.writer = NewWriter(b.options())
	return b
}

func (b *bench) options() WriterOptions {
	return WriterOptions{
		Client: b.client, View: b.view.View, Owner: Upstream("us-east"),
		Leads: func() bool { return b.leads },
		Count: func(resource, verb, result string) {
			b.countMu.Lock()
			defer b.countMu.Unlock()
			b.counts[strings.Join([]string{verb, resource, result}, " ")]++
		},
	}
}

// refuse has the writes of one kind answered with an error: "create us-east-web-1".
func (b *bench) refuse(err error, writes ...string) {
	b.set(func() {
		b.fault = func(a clienttesting.Action) error {
			verb, name := a.GetVerb(), ""
			switch a := a.(type) {
			case clienttesting.CreateActionImpl:
				name = accessor(a.Object).GetName()
			case clienttesting.UpdateActionImpl:
				name = accessor(a.Object).GetName()
			case clienttesting.PatchActionImpl:
				verb, name = "update", a.Name
			case clienttesting.DeleteActionImpl:
				name = a.Name
			}
			if slices.Contains(writes, verb+" "+name) {
				return err
			}
			return nil
		}
	})
}

func (b *bench) apply(t *testing.T, changes ...mirror.Change) Result {
	t.Helper()
	return b.writer.Apply(t.Context(), changes, ApplyOptions{})
}

func (b *bench) service(t *testing.T) *corev1.Service {
	t.Helper()
	s := b.view.Objects(web).Service
	if s == nil {
		t.Fatal("the view has no Service")
	}
	return s
}

func (b *bench) slice(t *testing.T, name string) *discoveryv1.EndpointSlice {
	t.Helper()
	for _, s := range b.view.Objects(web).Slices {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("the view has no slice %s", name)
	return nil
}

func create(o runtime.Object) mirror.Change { return change(mirror.Create, o) }
func remove(o runtime.Object) mirror.Change { return change(mirror.Delete, o) }

// because says why something is deleted: to be created again.
func because(c mirror.Change) mirror.Change {
	c.Why = []string{"addressType"}
	return c
}

func change(verb mirror.Verb, o runtime.Object) mirror.Change {
	switch o := o.(type) {
	case *corev1.Service:
		return mirror.Change{Verb: verb, Service: o}
	case *discoveryv1.EndpointSlice:
		return mirror.Change{Verb: verb, Slice: o}
	}
	panic(o)
}

// relabel updates an object's label app.
func relabel(o runtime.Object, value string) mirror.Change {
	o = o.DeepCopyObject()
	m := accessor(o)
	m.SetLabels(maps.Clone(m.GetLabels()))
	m.GetLabels()["app"] = value
	c := change(mirror.Update, o)
	if c.Service != nil {
		c.Patch, _ = json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": m.GetUID(), "resourceVersion": m.GetResourceVersion(), "labels": map[string]string{"app": value},
		}})
		m.SetUID("")
		m.SetResourceVersion("")
	}
	return c
}

// owned is a slice that names a Service as its owner, whose UID isn't known yet.
func owned(name string) *discoveryv1.EndpointSlice {
	s := slice(web, name, 1, 1)
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "us-east-web"}}
	return s
}

func wantWrites(t *testing.T, b *bench, from int, want ...string) {
	t.Helper()
	if got := b.written()[from:]; !slices.Equal(got, want) {
		t.Errorf("wrote\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func names(refused []Refused) (names []string) {
	for _, r := range refused {
		names = append(names, r.Object.GetName())
	}
	return names
}

// joined is all that went wrong.
func joined(r Result) error {
	errs := []error{r.Err}
	for _, refused := range r.Refused {
		errs = append(errs, refused.Err)
	}
	return errors.Join(errs...)
}

var (
	errInvalid   = apierrors.NewInvalid(schema.GroupKind{Kind: "X"}, "x", nil)
	errForbidden = apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("exceeded quota"))
	errEtcdSize  = apierrors.NewInternalError(errors.New("etcdserver: request is too large"))
	errWebhook   = apierrors.NewInternalError(errors.New("failed calling webhook"))
	errNetwork   = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
)

func TestApplyMakesChanges(t *testing.T) {
	b := newBench()
	out := b.apply(t, create(service(web)), create(owned("us-east-web-1")))
	if err := joined(out); err != nil {
		t.Fatal(err)
	}
	s := b.service(t)
	if got := b.slice(t, "us-east-web-1").OwnerReferences[0].UID; got == "" || got != s.UID {
		t.Errorf("the slice's owner has the UID %q, want the Service's, %q", got, s.UID)
	}
	out = b.apply(t, relabel(s, "a"), relabel(b.slice(t, "us-east-web-1"), "a"))
	if err := joined(out); err != nil || b.service(t).Labels["app"] != "a" || b.slice(t, "us-east-web-1").Labels["app"] != "a" {
		t.Errorf("error %v, view %v", err, b.view.Objects(web))
	}
	out = b.apply(t, remove(b.service(t)), remove(b.slice(t, "us-east-web-1")))
	if err := joined(out); err != nil || len(b.view.Keys()) != 0 {
		t.Errorf("error %v, keys %v", err, b.view.Keys())
	}
	for _, verb := range []string{"create", "update", "delete"} {
		for _, resource := range []string{"services", "endpointslices"} {
			if n := b.counts[verb+" "+resource+" ok"]; n != 1 {
				t.Errorf("%d writes %s %s are counted, want 1", n, verb, resource)
			}
		}
	}
}

func TestRefusedChangeDoesNotStopOthers(t *testing.T) {
	for name, refusal := range map[string]error{
		"invalid": errInvalid, "forbidden": errForbidden, "too large for etcd": errEtcdSize,
		"bad request": apierrors.NewBadRequest("x"), "too large": apierrors.NewRequestEntityTooLargeError("x"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(service(web), slice(web, "us-east-web-1", 1, 1), slice(web, "us-east-web-3", 1, 1))
			b.refuse(refusal, "create us-east-web-2", "update us-east-web")
			out := b.apply(t, relabel(b.service(t), "a"), create(slice(web, "us-east-web-2", 1, 1)),
				relabel(b.slice(t, "us-east-web-1"), "a"), remove(b.slice(t, "us-east-web-3")))
			if got, want := names(out.Refused), []string{"us-east-web", "us-east-web-2"}; !slices.Equal(got, want) {
				t.Errorf("refused %q, want %q", got, want)
			}
			if out.Err != nil || !errors.Is(joined(out), refusal) {
				t.Errorf("outcome %+v", out)
			}
			wantWrites(t, b, 0, "update endpointslices team-a/us-east-web-1", "delete endpointslices team-a/us-east-web-3")
		})
	}
}

func TestSlicesWaitForTheirService(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		wrote []string
	}{
		// What is gone upstream leaves at once.
		"refused": {errForbidden, []string{"delete endpointslices team-a/us-east-web-3"}},
		"failed":  {errWebhook, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(slice(web, "us-east-web-2", 1, 1), slice(web, "us-east-web-3", 1, 1))
			b.refuse(tc.err, "create us-east-web")
			replaced := because(remove(b.slice(t, "us-east-web-2")))
			out := b.apply(t, create(service(web)), replaced, create(owned("us-east-web-1")), create(owned("us-east-web-2")),
				remove(b.slice(t, "us-east-web-3")))
			if len(out.Refused) == 1 == (out.Err != nil) {
				t.Errorf("outcome %+v", out)
			}
			wantWrites(t, b, 0, tc.wrote...)
		})
	}
}

func TestReplacementWaitsForTheDeletion(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		wrote []string
	}{
		"refused": {errForbidden, []string{"delete endpointslices team-a/us-east-web-3"}},
		"failed":  {errWebhook, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(service(web), slice(web, "us-east-web-3", 1, 1))
			b.refuse(tc.err, "delete us-east-web")
			b.apply(t, because(remove(b.service(t))), create(service(web)), create(owned("us-east-web-1")), remove(b.slice(t, "us-east-web-3")))
			wantWrites(t, b, 0, tc.wrote...)
		})
	}
}

func TestPassingErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		wrote []string
	}{
		"of one object": {errWebhook, []string{"update endpointslices team-a/us-east-web-1"}},
		"of a terminating namespace": {&apierrors.StatusError{ErrStatus: metav1.Status{
			Reason: metav1.StatusReasonForbidden, Code: 403,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}},
		}}, []string{"update endpointslices team-a/us-east-web-1"}},
		"of the network":          {errNetwork, nil},
		"of an overloaded server": {apierrors.NewTooManyRequestsError("x"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(service(web), slice(web, "us-east-web-1", 1, 1), slice(web, "us-east-web-3", 1, 1))
			b.refuse(tc.err, "create us-east-web-2")
			out := b.apply(t, create(slice(web, "us-east-web-2", 1, 1)), relabel(b.slice(t, "us-east-web-1"), "a"), remove(b.slice(t, "us-east-web-3")))
			if !errors.Is(out.Err, tc.err) || len(out.Refused) > 0 || !strings.Contains(out.Err.Error(), "create endpointslices team-a/us-east-web-2") {
				t.Errorf("outcome %+v", out)
			}
			wantWrites(t, b, 0, tc.wrote...)
		})
	}
}

func TestFailedRemovalDoesNotStopOthers(t *testing.T) {
	b := newBench(service(web), slice(web, "us-east-web-1", 1, 1))
	b.refuse(errWebhook, "delete us-east-web")
	out := b.apply(t, remove(b.service(t)), remove(b.slice(t, "us-east-web-1")))
	if out.Err == nil {
		t.Errorf("outcome %+v", out)
	}
}

func TestEndedContextEndsApply(t *testing.T) {
	b := newBench(service(web), slice(web, "us-east-web-1", 1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	b.set(func() { b.fault = func(clienttesting.Action) error { cancel(); return errWebhook } })
	b.writer.Apply(ctx, []mirror.Change{remove(b.service(t)), remove(b.slice(t, "us-east-web-1"))}, ApplyOptions{})
	if got := b.counts["delete endpointslices error"]; got != 0 {
		t.Error("goes on after the end of its context")
	}
}

func TestBehind(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(*bench)
		change    func(*testing.T, *bench) mirror.Change
		// holds says what the view is to have afterwards.
		holds func(*bench) bool
	}{
		"changed meanwhile": {
			func(b *bench) { b.put(service(web)) },
			func(t *testing.T, b *bench) mirror.Change { return relabel(b.service(t), "a") },
			func(b *bench) bool { return b.view.Holding(web).Service },
		},
		"deleted meanwhile": {
			func(b *bench) { b.remove(service(web)) },
			func(t *testing.T, b *bench) mirror.Change { return relabel(b.service(t), "a") },
			func(b *bench) bool { return !b.view.Holding(web).Service },
		},
		"changed before a deletion": {
			func(b *bench) { b.put(service(web)) },
			func(t *testing.T, b *bench) mirror.Change { return remove(b.service(t)) },
			func(b *bench) bool { return b.view.Holding(web).Service },
		},
		"created meanwhile": {
			func(b *bench) { b.put(slice(web, "us-east-web-1", 1, 1)) },
			func(*testing.T, *bench) mirror.Change { return create(slice(web, "us-east-web-1", 1, 1)) },
			func(b *bench) bool { return len(b.view.Objects(web).Slices) == 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(service(web))
			c := tc.change(t, b)
			tc.meanwhile(b)
			out := b.apply(t, c)
			if !errors.Is(out.Err, ErrBehind) || len(out.Refused) > 0 {
				t.Errorf("outcome %+v", out)
			}
			if !tc.holds(b) {
				t.Errorf("the view has %v", b.view.Objects(web))
			}
			if b.counts[string(c.Verb)+" "+resourceOf(objectOf(c).(runtime.Object))+" conflict"] != 1 {
				t.Errorf("counted %v", b.counts)
			}
		})
	}
}
