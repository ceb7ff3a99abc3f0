package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// size is how much an upstream has. Every Service has two ports and one EndpointSlice.
type size struct{ services, endpoints int }

// teams is over how many namespaces the Services are spread.
const teams = 20

// app is one upstream Service and its slice, as they were last written.
type app struct {
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
}

func newApp(s size, i int) *app {
	meta := metav1.ObjectMeta{
		Namespace: fmt.Sprintf("team-%02d", i%teams), Name: fmt.Sprintf("app-%05d", i),
		Labels: map[string]string{"app.kubernetes.io/name": fmt.Sprintf("app-%05d", i), "app.kubernetes.io/part-of": "bench", "tier": "web"},
	}
	// Headless and without a selector: the upstream's own controllers are not what is measured.
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone,
		Ports:     []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "metrics", Port: 9090}},
	}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: *meta.DeepCopy(), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)},
			{Name: new("metrics"), Port: new(int32(9090)), Protocol: new(corev1.ProtocolTCP)},
		},
	}
	slice.Name += "-x7k2p"
	slice.Labels[discoveryv1.LabelServiceName], slice.Labels[discoveryv1.LabelManagedBy] = service.Name, "bench"
	for j := range s.endpoints {
		slice.Endpoints = append(slice.Endpoints, newEndpoint(meta.Namespace, i*s.endpoints+j))
	}
	return &app{service, slice}
}

// newEndpoint is as the endpointslice controller makes them.
func newEndpoint(namespace string, n int) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{netip.AddrFrom4([4]byte{10, byte(64 + n>>16), byte(n >> 8), byte(n)}).String()},
		Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		NodeName:   new(fmt.Sprintf("node-%03d", n%100)), Zone: new([]string{"zone-a", "zone-b", "zone-c"}[n%3]),
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("pod-%06d", n)},
	}
}

// fill makes the namespaces of both clusters and what the upstream has.
func (w *world) fill(ctx context.Context) error {
	say("filling the upstream with %d Services of %d endpoints", w.size.services, w.size.endpoints)
	for i := range w.size.services {
		w.apps = append(w.apps, newApp(w.size, i))
	}
	for i := range min(teams, w.size.services) {
		namespace := w.apps[i].service.Namespace
		if err := makeNamespace(ctx, w.up, namespace); err != nil {
			return err
		}
		if err := w.namespace(ctx, namespace); err != nil {
			return err
		}
	}
	return each(ctx, w.apps, func(ctx context.Context, a *app) (err error) {
		if _, err = w.up.CoreV1().Services(a.service.Namespace).Create(ctx, a.service, metav1.CreateOptions{}); err != nil {
			return err
		}
		a.slice, err = w.up.DiscoveryV1().EndpointSlices(a.slice.Namespace).Create(ctx, a.slice, metav1.CreateOptions{})
		return err
	})
}

func (w *world) namespace(ctx context.Context, name string) error {
	err := w.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func makeNamespace(ctx context.Context, c *kubernetes.Clientset, name string) error {
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

// each calls f for all items, as many at once as Gimbal has workers.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, item := range items {
		group.Go(func() error { return f(ctx, item) })
	}
	return group.Wait()
}

// plainObjects are the very objects that Gimbal makes of apps, but for the upstream's name and the namespaces.
func plainObjects(apps []*app, prefix string) ([]mirror.Objects, error) {
	policy, err := mirror.NewAddressPolicy(nil, nil)
	if err != nil {
		return nil, err
	}
	rules := mirror.Rules{Backend: "plain", Addresses: policy}
	var all []mirror.Objects
	for _, a := range apps {
		s := &mirror.Service{
			Key:    mirror.Key{Namespace: prefix + a.service.Namespace, Name: a.service.Name},
			Labels: a.service.Labels,
			Slices: []mirror.Slice{{Name: a.slice.Name, AddressType: a.slice.AddressType}},
		}
		for _, p := range a.service.Spec.Ports {
			s.Ports = append(s.Ports, mirror.Port{Name: p.Name, Number: p.Port, Protocol: corev1.ProtocolTCP})
		}
		for _, p := range a.slice.Ports {
			s.Slices[0].Ports = append(s.Slices[0].Ports, mirror.Port{Name: *p.Name, Number: *p.Port, Protocol: *p.Protocol})
		}
		for _, e := range a.slice.Endpoints {
			s.Slices[0].Endpoints = append(s.Slices[0].Endpoints, mirror.Endpoint{Addresses: e.Addresses, Zone: *e.Zone, Ready: true, Serving: true})
		}
		o, refused := rules.Desired(s)
		if len(refused) > 0 {
			return nil, fmt.Errorf("plain objects: %s", refused[0].Message)
		}
		all = append(all, o)
	}
	return all, nil
}

// writePlain creates objects as a plain client does, each slice after its Service, and
// keeps the slices as the API server answered.
func (w *world) writePlain(ctx context.Context, all []mirror.Objects) error {
	return each(ctx, all, func(ctx context.Context, o mirror.Objects) error {
		s, err := w.plain.CoreV1().Services(o.Service.Namespace).Create(ctx, o.Service, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		o.Slices[0].OwnerReferences[0].UID = s.UID
		o.Slices[0], err = w.plain.DiscoveryV1().EndpointSlices(s.Namespace).Create(ctx, o.Slices[0], metav1.CreateOptions{})
		return err
	})
}

// makePlain makes the namespaces of plain objects for the first n apps, and returns the objects.
func (w *world) makePlain(ctx context.Context, prefix string, n int) ([]mirror.Objects, error) {
	for i := range min(teams, n) {
		if err := w.namespace(ctx, prefix+w.apps[i].service.Namespace); err != nil {
			return nil, err
		}
	}
	return plainObjects(w.apps[:n], prefix)
}

// removePlain removes what writePlain made.
func (w *world) removePlain(ctx context.Context, prefix string, objects []mirror.Objects) error {
	err := each(ctx, objects, func(ctx context.Context, o mirror.Objects) error {
		slice := o.Slices[0]
		return errors.Join(
			w.plain.CoreV1().Services(slice.Namespace).Delete(ctx, o.Service.Name, metav1.DeleteOptions{}),
			client.IgnoreNotFound(w.plain.DiscoveryV1().EndpointSlices(slice.Namespace).Delete(ctx, slice.Name, metav1.DeleteOptions{})),
		)
	})
	if err != nil {
		return err
	}
	return w.seen.await(ctx, func() bool { return w.seen.count(starting(prefix)) == 0 })
}
