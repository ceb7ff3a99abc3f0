package discovery

import (
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	// removeWorkers is how many deletions of a removed upstream are under way at once.
	removeWorkers = 16
	// pageSize is how many objects one page of a listing holds.
	pageSize = 500
)

// removeAll deletes every central object of an upstream: the Services first, so that traffic ends at once.
func removeAll(ctx context.Context, client kubernetes.Interface, metrics *Metrics, backend string, leads func() bool) error {
	owned, err := listOwned(ctx, client, backend)
	if err != nil {
		return err
	}
	a := &applier{client: client, view: newCentral(client, backend, func(bool, ...mirror.Key) {}), backend: backend, metrics: metrics, leads: leads}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removeWorkers)
	for _, objects := range owned {
		group.Go(func() error { return a.Apply(ctx, mirror.Plan(mirror.Objects{}, objects), false) })
	}
	return group.Wait()
}

// listOwned returns what the central cluster holds of an upstream, by key.
func listOwned(ctx context.Context, client kubernetes.Interface, backend string) (map[mirror.Key]mirror.Objects, error) {
	owned := map[mirror.Key]mirror.Objects{}
	options := metav1.ListOptions{LabelSelector: mirror.LabelBackend + "=" + backend, Limit: pageSize}
	err := pages(options, func(o metav1.ListOptions) (string, error) {
		list, err := client.CoreV1().Services("").List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			add(owned, backend, &list.Items[i], func(o *mirror.Objects, s *corev1.Service) { o.Service = mirror.TrimService(s) })
		}
		return list.Continue, nil
	})
	if err != nil {
		return nil, err
	}
	return owned, pages(options, func(o metav1.ListOptions) (string, error) {
		list, err := client.DiscoveryV1().EndpointSlices("").List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			add(owned, backend, &list.Items[i], func(o *mirror.Objects, s *discoveryv1.EndpointSlice) {
				o.Slices = append(o.Slices, mirror.TrimSlice(s))
			})
		}
		return list.Continue, nil
	})
}

func add[T object](owned map[mirror.Key]mirror.Objects, backend string, o T, put func(*mirror.Objects, T)) {
	if b, key, ok := mirror.Owner(o); ok && b == backend {
		objects := owned[key]
		put(&objects, o)
		owned[key] = objects
	}
}

// pages calls list until it returns no continuation; a continuation that expired starts over.
func pages(options metav1.ListOptions, list func(metav1.ListOptions) (string, error)) error {
	for {
		next, err := list(options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			options.Continue = ""
			continue
		}
		if err != nil || next == "" {
			return err
		}
		options.Continue = next
	}
}
