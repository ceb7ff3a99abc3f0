package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// setUp connects the controller with what it watches.
func (c *controller) setUp(ctx context.Context, mgr manager.Manager) error {
	ctl, err := ctrlcontroller.New("upstreamcluster", mgr, ctrlcontroller.Options{
		Reconciler:              c,
		MaxConcurrentReconciles: 4,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second),
	})
	if err != nil {
		return err
	}
	return errors.Join(
		c.watch(ctx, mgr, &v1alpha1.UpstreamCluster{}, c.handler(ctx, c.related)),
		c.watch(ctx, mgr, &corev1.Secret{}, c.handler(ctx, c.usersOf)),
		c.watchNamespaces(ctx, mgr),
		c.watchRanges(ctx, mgr),
		ctl.Watch(source.Func(c.requests.open)),
		mgr.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		mgr.AddReadyzCheck("upstreams", func(r *http.Request) error {
			if !mgr.GetCache().WaitForCacheSync(r.Context()) {
				return errors.New("the central cluster is still being listed")
			}
			return c.Ready(r.Context())
		}),
	)
}

// watch has a handler told of every object of a kind. All kinds are watched from the start, at the
// same time: controller-runtime's own sources begin one after another, a tenth of a second apart.
func (c *controller) watch(ctx context.Context, mgr manager.Manager, kind client.Object, h toolscache.ResourceEventHandler) error {
	informer, err := mgr.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching %T: %w", kind, err)
	}
	registration, err := informer.AddEventHandler(h)
	if err != nil {
		return fmt.Errorf("watching %T: %w", kind, err)
	}
	c.requests.openAfter(registration.HasSynced)
	return nil
}

// handler has the upstreams looked at that an object concerns.
func (c *controller) handler(ctx context.Context, concerns func(context.Context, client.Object) []reconcile.Request) toolscache.ResourceEventHandler {
	tell := func(o any) {
		if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		if object, ok := o.(client.Object); ok {
			c.requests.add(0, concerns(ctx, object)...)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, o any) { tell(o) }, DeleteFunc: tell}
}

// related returns an UpstreamCluster and those whose names can't be told from its.
func (c *controller) related(ctx context.Context, o client.Object) []reconcile.Request {
	requests := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
	var all v1alpha1.UpstreamClusterList
	if err := c.client.List(ctx, &all, client.InNamespace(o.GetNamespace())); err != nil {
		return requests
	}
	for i := range all.Items {
		if name := all.Items[i].Name; name != o.GetName() && mirror.Ambiguous(name, o.GetName()) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}})
		}
	}
	return requests
}

// usersOf returns the UpstreamClusters that use a Secret.
func (c *controller) usersOf(ctx context.Context, secret client.Object) []reconcile.Request {
	var all v1alpha1.UpstreamClusterList
	if err := c.client.List(ctx, &all, client.InNamespace(secret.GetNamespace())); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if c.options.Policy.Secret(&all.Items[i]) == secret.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return requests
}

// watchNamespaces keeps the set of central namespaces and tells the agents of changes.
func (c *controller) watchNamespaces(ctx context.Context, mgr manager.Manager) error {
	kind := &metav1.PartialObjectMetadata{}
	kind.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	set := func(o any, there bool) {
		if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		n, err := meta.Accessor(o)
		if err != nil || !c.namespaces.Set(n.GetName(), there && n.GetDeletionTimestamp().IsZero()) {
			return
		}
		for _, r := range c.agents() {
			r.agent.NamespaceChanged(n.GetName())
		}
	}
	return c.watch(ctx, mgr, kind, toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { set(o, true) },
		UpdateFunc: func(_, o any) { set(o, true) },
		DeleteFunc: func(o any) { set(o, false) },
	})
}

// watchRanges keeps the central cluster's own address ranges. They are known before the first
// upstream is looked at.
func (c *controller) watchRanges(ctx context.Context, mgr manager.Manager) error {
	// A watch that isn't allowed is tried for ever; what is read once says so and ends the start.
	if err := central.NewRanges(nil).Read(ctx, mgr.GetAPIReader()); err != nil {
		return fmt.Errorf("reading the central cluster's address ranges: %w", err)
	}
	kinds := []client.Object{&corev1.Node{}}
	gk := schema.GroupKind{Group: networkingv1.GroupName, Kind: "ServiceCIDR"}
	if _, err := mgr.GetRESTMapper().RESTMapping(gk, "v1"); err == nil {
		kinds = append(kinds, &networkingv1.ServiceCIDR{})
	}
	for _, kind := range kinds {
		if err := c.watch(ctx, mgr, kind, c.ranges.Handler()); err != nil {
			return err
		}
	}
	return nil
}
