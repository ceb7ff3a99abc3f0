package central

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// What a view reads and a writer writes:
//
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch;create;update;delete

const fieldManager = "gimbal-discovery"

var (
	// ErrBehind says that the view was older than the central cluster: the key is to be looked at again at once.
	ErrBehind = errors.New("the view of the central cluster was behind")
	// ErrTaken says that an object of the name exists and isn't the owner's.
	ErrTaken = errors.New("the name is taken by a foreign object")
	// ErrDisowned says that the API server made something else of a write than an object of the owner's.
	ErrDisowned = errors.New("an admission policy removes or changes the label or the annotation by which Gimbal knows its objects: " +
		"exempt Gimbal's ServiceAccount from it, and delete the object")
	// ErrNotLeading says that another replica may write by now.
	ErrNotLeading = errors.New("the Lease isn't held any more")
)

// WriterOptions are what a Writer needs.
type WriterOptions struct {
	Client kubernetes.Interface
	// View takes in the answers.
	View  *View
	Owner Owner
	// Leads says whether writing is still this replica's business.
	Leads func() bool
	// Count is called with each write that the API server answered: ok, conflict or error.
	Count func(resource, verb, result string)
}

// Writer carries out planned changes. Updates and deletions carry the UID and the
// resourceVersion on which the plan was made.
type Writer struct{ options WriterOptions }

// NewWriter returns a Writer.
func NewWriter(o WriterOptions) *Writer { return &Writer{o} }

// ApplyOptions say how changes are carried out.
type ApplyOptions struct {
	// Careful has names read before something is created: where a name was taken before it
	// mostly still is, and a create that can only fail is a write too many.
	Careful bool
	// Rehearse has updates tried first without effect: where an admission policy makes the
	// object what it is already, there is nothing to write.
	Rehearse bool
}

// Result is what came of changes.
type Result struct {
	// Refused are changes that only time or someone's hand makes possible.
	Refused []Refused
	// Err is why others weren't made, or may not have been: they are to be tried again. It is
	// ErrBehind only where nothing worse happened.
	Err error
}

// Refused is a change that the central cluster refused.
type Refused struct {
	Object metav1.Object
	Err    error
}

// Apply carries out changes in order. One that is refused doesn't keep others from being
// made, but those of the same object, and slices whose Service couldn't be created. One that
// fails for now keeps what is to be deleted in place.
func (w *Writer) Apply(ctx context.Context, changes []mirror.Change, o ApplyOptions) Result {
	a := &application{Writer: w, ApplyOptions: o, blocked: map[string]bool{}}
	for _, c := range changes {
		if !w.options.Leads() {
			a.result.Err = ErrNotLeading
			break
		}
		if a.waits(c) {
			continue
		}
		if err := a.make(ctx, c); err != nil && (!a.goesOn(c, err) || ctx.Err() != nil) {
			break
		}
	}
	return a.result
}

// application is one Apply.
type application struct {
	*Writer
	ApplyOptions
	owner   types.UID       // of the slices, where their Service was just written
	orphans bool            // their Service couldn't be created
	failed  bool            // something that is to be added or changed hasn't been, for now
	blocked map[string]bool // slices whose first change wasn't made
	result  Result
}

// waits reports whether a change has to wait for another that wasn't made.
func (a *application) waits(c mirror.Change) bool {
	switch {
	case c.Service != nil:
		return a.orphans // its deletion was refused
	case a.blocked[c.Slice.Name]:
		return true
	case c.Verb != mirror.Delete, len(c.Why) > 0: // what is deleted for a reason is created again
		return a.orphans
	}
	return a.failed
}

// goesOn records an error and reports whether other changes can be made all the same.
func (a *application) goesOn(c mirror.Change, err error) bool {
	if c.Slice != nil {
		a.blocked[c.Slice.Name] = true
	} else if c.Verb != mirror.Update {
		a.orphans = true
	}
	if isRefused(err) {
		a.result.Refused = append(a.result.Refused, Refused{objectOf(c), err})
		return true
	}
	if a.result.Err == nil || errors.Is(a.result.Err, ErrBehind) {
		a.result.Err = err
	}
	a.failed = a.failed || adds(c)
	return errors.Is(err, ErrBehind) || !unreachable(err)
}

// adds reports whether traffic may need a change before something else is deleted: a webhook that
// is down for Services keeps their labels as they are, and no endpoint that is gone.
func adds(c mirror.Change) bool {
	switch {
	case c.Service != nil && c.Verb == mirror.Update:
		return slices.Contains(c.Why, "ports")
	case c.Verb == mirror.Delete:
		return len(c.Why) > 0 // to delete what makes room for another is a part of adding that
	}
	return true
}

// unreachable reports whether an error is about the API server as a whole, so that to go on
// with other changes is in vain.
func unreachable(err error) bool {
	return apierrors.ReasonForError(err) == metav1.StatusReasonUnknown || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)
}

func objectOf(c mirror.Change) metav1.Object {
	if c.Service != nil {
		return c.Service
	}
	return c.Slice
}

// isRefused reports whether an answer of the central cluster is one that a retry at once can't mend.
func isRefused(err error) bool {
	switch {
	case errors.Is(err, ErrTaken), errors.Is(err, ErrDisowned), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err),
		apierrors.IsMethodNotSupported(err):
		return true
	case apierrors.IsForbidden(err):
		return !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
	}
	// The central etcd's bound, and that of its client.
	return err != nil && (strings.Contains(err.Error(), "etcdserver: request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max"))
}

// make carries out one change.
func (a *application) make(ctx context.Context, c mirror.Change) error {
	switch {
	case a.Careful && c.Verb == mirror.Create:
		if err := a.free(ctx, c); err != nil {
			return err
		}
	case a.ApplyOptions.Rehearse && c.Verb == mirror.Update:
		if a.rehearse(ctx, c) {
			return nil
		}
	}
	if c.Service == nil {
		return a.slice(ctx, c)
	}
	got, err := a.service(ctx, c, nil)
	if err = a.answered(services, c, err); err != nil || c.Verb == mirror.Delete {
		return err
	}
	a.owner = got.UID
	return a.take(c, c.Service, got)
}

// service sends one change of a Service.
func (w *Writer) service(ctx context.Context, c mirror.Change, dryRun []string) (*corev1.Service, error) {
	client := w.options.Client.CoreV1().Services(c.Service.Namespace)
	switch c.Verb {
	case mirror.Create:
		got, err := client.Create(ctx, c.Service, metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRun})
		if apierrors.IsAlreadyExists(err) {
			err = w.taken(client.Get(ctx, c.Service.Name, metav1.GetOptions{}))
		}
		return got, err
	case mirror.Update:
		return client.Patch(ctx, c.Service.Name, types.MergePatchType, c.Patch, metav1.PatchOptions{FieldManager: fieldManager, DryRun: dryRun})
	}
	return nil, client.Delete(ctx, c.Service.Name, preconditions(c.Service))
}

// slice carries out one change of an EndpointSlice.
func (a *application) slice(ctx context.Context, c mirror.Change) error {
	if a.owner != "" && c.Verb != mirror.Delete {
		for i := range c.Slice.OwnerReferences {
			c.Slice.OwnerReferences[i].UID = a.owner
		}
	}
	got, err := a.sendSlice(ctx, c, nil)
	if err = a.answered(endpointSlices, c, err); err != nil || c.Verb == mirror.Delete {
		return err
	}
	return a.take(c, c.Slice, got)
}

// sendSlice sends one change of an EndpointSlice.
func (w *Writer) sendSlice(ctx context.Context, c mirror.Change, dryRun []string) (*discoveryv1.EndpointSlice, error) {
	client := w.options.Client.DiscoveryV1().EndpointSlices(c.Slice.Namespace)
	switch c.Verb {
	case mirror.Create:
		got, err := client.Create(ctx, c.Slice, metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRun})
		if apierrors.IsAlreadyExists(err) {
			err = w.taken(client.Get(ctx, c.Slice.Name, metav1.GetOptions{}))
		}
		return got, err
	case mirror.Update:
		return client.Update(ctx, c.Slice, metav1.UpdateOptions{FieldManager: fieldManager, DryRun: dryRun})
	}
	return nil, client.Delete(ctx, c.Slice.Name, preconditions(c.Slice))
}

// take puts an answer into the view, which keeps no object that isn't the owner's any more.
func (w *Writer) take(c mirror.Change, sent, got metav1.Object) error {
	answer, differs := mirror.AnswerTo(sent, got)
	w.options.View.Put(got)
	if _, ok := w.options.Owner.KeyOf(got); !ok {
		return fmt.Errorf("%s %s/%s: %w", c.Verb, got.GetNamespace(), got.GetName(), ErrDisowned)
	}
	w.options.View.Answered(got.GetUID(), answer, differs)
	return nil
}

// rehearse reports whether an update would have no effect, and remembers that.
func (a *application) rehearse(ctx context.Context, c mirror.Change) (nothing bool) {
	current := a.options.View.Current(objectOf(c))
	if current == nil || !a.Writer.Rehearse(ctx, c, current) {
		return false
	}
	answer, _ := mirror.AnswerTo(objectOf(c), current)
	a.options.View.Answered(current.GetUID(), answer, true)
	return true
}

// Rehearse tries an update without effect, and reports whether it would leave the current
// object as it is. An error is for the real update to meet: some webhooks refuse every
// rehearsal.
func (w *Writer) Rehearse(ctx context.Context, c mirror.Change, current metav1.Object) (nothing bool) {
	var got metav1.Object
	var err error
	if c.Service != nil {
		got, err = w.service(ctx, c, []string{metav1.DryRunAll})
	} else {
		got, err = w.sendSlice(ctx, c, []string{metav1.DryRunAll})
	}
	if err != nil {
		return false
	}
	_, differs := mirror.AnswerTo(got, current)
	return !differs
}

// free returns an error unless the name of an object to create is free.
func (w *Writer) free(ctx context.Context, c mirror.Change) error {
	var o metav1.Object
	var err error
	if c.Service != nil {
		o, err = w.options.Client.CoreV1().Services(c.Service.Namespace).Get(ctx, c.Service.Name, metav1.GetOptions{})
	} else {
		o, err = w.options.Client.DiscoveryV1().EndpointSlices(c.Slice.Namespace).Get(ctx, c.Slice.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return w.taken(o, err)
}

// taken says what stands in the way of a create: an object of the owner's that the view hasn't seen, or a foreign one.
func (w *Writer) taken(o metav1.Object, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return ErrBehind
	case err != nil:
		return err
	}
	if _, ok := w.options.Owner.KeyOf(o); !ok {
		return fmt.Errorf("%s/%s: %w", o.GetNamespace(), o.GetName(), ErrTaken)
	}
	w.options.View.Put(o)
	return ErrBehind
}

// answered counts an answered write and turns what it says about the view into ErrBehind.
func (w *Writer) answered(resource string, c mirror.Change, err error) error {
	o, result := objectOf(c), "ok"
	switch {
	case err == nil:
		if c.Verb == mirror.Delete {
			w.options.View.Drop(o)
		}
	case apierrors.IsNotFound(err) && c.Verb == mirror.Delete:
		w.options.View.Drop(o)
		err = nil
	case apierrors.IsNotFound(err) && c.Verb == mirror.Update:
		if current := w.options.View.Current(o); current != nil {
			w.options.View.Drop(current) // a desired Service has no UID
		}
		err, result = ErrBehind, "conflict"
	case apierrors.IsConflict(err), errors.Is(err, ErrBehind):
		err, result = ErrBehind, "conflict"
	case errors.Is(err, ErrTaken):
		result = "conflict"
	default:
		result = "error"
		err = fmt.Errorf("%s %s %s/%s: %w", c.Verb, resource, o.GetNamespace(), o.GetName(), err)
	}
	w.options.Count(resource, string(c.Verb), result)
	return err
}

func preconditions(o metav1.Object) metav1.DeleteOptions {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}}
}
