package discovery

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
)

const fieldManager = "gimbal-discovery"

// errBehind says that the central view was older than the API server's; the key is tried again at once.
var errBehind = errors.New("the view of the central cluster was behind")

// errTaken says that an object of the name exists and isn't the upstream's.
var errTaken = errors.New("the name is taken by an object that isn't this upstream's")

// errNotLeading says that another replica may serve the upstream by now.
var errNotLeading = errors.New("the Lease isn't held any more")

// applier carries out planned changes of one upstream. Updates and deletes carry
// the UID and resource version on which the plan was made.
type applier struct {
	client  kubernetes.Interface
	view    *central
	backend string
	metrics *Metrics
	leads   func() bool // whether the upstream's Lease is held
}

// Apply carries out changes in order and stops at the first that fails. If careful, it
// reads before it creates: where a name was taken before, it mostly still is, and a
// create that can only fail is a write too many.
func (a *applier) Apply(ctx context.Context, changes []mirror.Change, careful bool) error {
	var owner types.UID
	for _, c := range changes {
		if !a.leads() {
			return errNotLeading
		}
		if careful && c.Verb == mirror.Create {
			if err := a.free(ctx, c); err != nil {
				return err
			}
		}
		var err error
		if c.Service != nil {
			owner, err = a.service(ctx, c)
		} else {
			err = a.slice(ctx, c, owner)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// service applies one change of a Service and returns its UID.
func (a *applier) service(ctx context.Context, c mirror.Change) (types.UID, error) {
	services := a.client.CoreV1().Services(c.Service.Namespace)
	var got *corev1.Service
	var err error
	switch c.Verb {
	case mirror.Create:
		got, err = services.Create(ctx, c.Service, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) {
			err = a.taken(services.Get(ctx, c.Service.Name, metav1.GetOptions{}))
		}
	case mirror.Update:
		got, err = services.Patch(ctx, c.Service.Name, types.MergePatchType, c.Patch, metav1.PatchOptions{FieldManager: fieldManager})
	case mirror.Delete:
		err = services.Delete(ctx, c.Service.Name, preconditions(c.Service))
	}
	if err = a.done("services", c.Verb, c.Service, err); err != nil || c.Verb == mirror.Delete {
		return "", err
	}
	a.view.Put(got)
	return got.UID, nil
}

// slice applies one change of an EndpointSlice; owner is its Service's UID where that was just written.
func (a *applier) slice(ctx context.Context, c mirror.Change, owner types.UID) error {
	slices := a.client.DiscoveryV1().EndpointSlices(c.Slice.Namespace)
	if owner != "" && c.Verb != mirror.Delete {
		for i := range c.Slice.OwnerReferences {
			c.Slice.OwnerReferences[i].UID = owner
		}
	}
	var got *discoveryv1.EndpointSlice
	var err error
	switch c.Verb {
	case mirror.Create:
		got, err = slices.Create(ctx, c.Slice, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) {
			err = a.taken(slices.Get(ctx, c.Slice.Name, metav1.GetOptions{}))
		}
	case mirror.Update:
		got, err = slices.Update(ctx, c.Slice, metav1.UpdateOptions{FieldManager: fieldManager})
	case mirror.Delete:
		err = slices.Delete(ctx, c.Slice.Name, preconditions(c.Slice))
	}
	if err = a.done("endpointslices", c.Verb, c.Slice, err); err != nil || c.Verb == mirror.Delete {
		return err
	}
	a.view.Put(got)
	return nil
}

// free returns an error unless the name of an object to create is free.
func (a *applier) free(ctx context.Context, c mirror.Change) error {
	var o metav1.Object
	var err error
	if c.Service != nil {
		o, err = a.client.CoreV1().Services(c.Service.Namespace).Get(ctx, c.Service.Name, metav1.GetOptions{})
	} else {
		o, err = a.client.DiscoveryV1().EndpointSlices(c.Slice.Namespace).Get(ctx, c.Slice.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return a.taken(o, err)
}

// taken says what stands in the way of a create: an object of ours that the view hasn't seen, or a foreign one.
func (a *applier) taken(o metav1.Object, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return errBehind
	case err != nil:
		return err
	}
	if backend, _, ok := mirror.Owner(o); !ok || backend != a.backend {
		return errTaken
	}
	a.view.Put(o)
	return errBehind
}

// done counts an answered write and turns what it says about the view into errBehind.
func (a *applier) done(resource string, verb mirror.Verb, o metav1.Object, err error) error {
	result := "ok"
	switch {
	case err == nil:
		if verb == mirror.Delete {
			a.view.Drop(o)
		}
	case apierrors.IsNotFound(err) && verb == mirror.Delete:
		a.view.Drop(o)
		err = nil
	case apierrors.IsNotFound(err) && verb == mirror.Update:
		a.view.Drop(o)
		err, result = errBehind, "conflict"
	case apierrors.IsConflict(err), errors.Is(err, errBehind), errors.Is(err, errTaken):
		result = "conflict"
		if !errors.Is(err, errTaken) {
			err = errBehind
		}
	default:
		result = "error"
		err = fmt.Errorf("%s %s %s/%s: %w", verb, resource, o.GetNamespace(), o.GetName(), err)
	}
	a.metrics.writes.WithLabelValues(a.backend, resource, string(verb), result).Inc()
	return err
}

func preconditions(o metav1.Object) metav1.DeleteOptions {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}}
}
