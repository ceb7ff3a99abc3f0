package central

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"

	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	// removeWorkers is how many deletions of a removed upstream are under way at once.
	removeWorkers = 16
	// pageSize is how many objects one page of a listing holds.
	pageSize = 500
)

// RemoveOptions say what is removed, and how; see WriterOptions.
type RemoveOptions struct {
	Client kubernetes.Interface
	Owner  Owner
	Leads  func() bool
	Count  func(resource, verb, result string)
}

// RemoveAll deletes every central object of an owner: of each key the Service first, so that
// traffic ends at once. A deletion that is refused doesn't keep others from being made.
func RemoveAll(ctx context.Context, o RemoveOptions) error {
	owned, err := ListOwned(ctx, o.Client, o.Owner)
	if err != nil {
		return err
	}
	nobody := NewView(ViewOptions{Client: o.Client, Owner: o.Owner})
	w := NewWriter(WriterOptions{Client: o.Client, View: nobody, Owner: o.Owner, Leads: o.Leads, Count: o.Count})
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removeWorkers)
	var mu sync.Mutex
	var refused []error
	for _, objects := range owned {
		group.Go(func() error {
			r := w.Apply(ctx, mirror.Plan(mirror.Objects{}, objects), ApplyOptions{})
			mu.Lock()
			defer mu.Unlock()
			for _, one := range r.Refused {
				refused = append(refused, one.Err)
			}
			return r.Err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(refused) > 0 {
		return fmt.Errorf("%d deletions are refused, the first: %w", len(refused), refused[0])
	}
	return nil
}

// ListOwned returns what the central cluster holds of an owner, by key.
func ListOwned(ctx context.Context, client kubernetes.Interface, owner Owner) (map[mirror.Key]mirror.Objects, error) {
	owned := map[mirror.Key]mirror.Objects{}
	options := metav1.ListOptions{LabelSelector: owner.Selector}
	err := list(ctx, options, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Services("").List(ctx, o)
	}, func(s *corev1.Service) {
		if key, ok := owner.KeyOf(s); ok {
			o := owned[key]
			o.Service = mirror.TrimService(s)
			owned[key] = o
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	err = list(ctx, options, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.DiscoveryV1().EndpointSlices("").List(ctx, o)
	}, func(es *discoveryv1.EndpointSlice) {
		if key, ok := owner.KeyOf(es); ok {
			o := owned[key]
			o.Slices = append(o.Slices, mirror.TrimSlice(es))
			owned[key] = o
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	return owned, nil
}

// ListNamespaces returns the namespaces in which objects can be created.
func ListNamespaces(ctx context.Context, client kubernetes.Interface) (map[string]bool, error) {
	there := map[string]bool{}
	err := list(ctx, metav1.ListOptions{}, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Namespaces().List(ctx, o)
	}, func(n *corev1.Namespace) {
		if n.DeletionTimestamp.IsZero() {
			there[n.Name] = true
		}
	})
	return there, err
}

// list calls each with every object of a listing that is read page by page. One whose
// continuation expires fails: whoever asked asks again.
func list[T any](ctx context.Context, o metav1.ListOptions, page pager.ListPageFunc, each func(T)) error {
	p := pager.New(page)
	p.PageSize = pageSize
	return p.EachListItem(ctx, o, func(o runtime.Object) error {
		t, ok := o.(T)
		if !ok {
			return fmt.Errorf("unexpected %T in a listing", o)
		}
		each(t)
		return nil
	})
}
