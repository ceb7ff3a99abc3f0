// Package discovery serves UpstreamClusters, each by an agent of its own that keeps the
// upstream's central Services and EndpointSlices as the upstream has them.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/bound"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/lease"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// Options configure the engine.
type Options struct {
	// Config reaches the central cluster.
	Config *rest.Config
	// Namespace holds the UpstreamClusters, their Secrets and their Leases.
	Namespace string
	// Upstreams, if any, are the only ones served.
	Upstreams []string
	// Identity is this replica's name in Leases; no two replicas share one.
	Identity string
	// Policy is what upstreams may do.
	Policy accept.Policy
	// Workers is how many keys of one upstream are written at once.
	Workers int
	// MetricsAddress, ProbeAddress and PprofAddress are bound; "0" binds nothing.
	MetricsAddress, ProbeAddress, PprofAddress string
	// LeaseDuration is after how long without renewal another replica takes an upstream over.
	LeaseDuration time.Duration
	Registerer    prometheus.Registerer
	Logger        *slog.Logger
	Clock         clock.WithTicker
}

// Scheme returns the types that the engine reads and writes.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s))
}

// Run serves the UpstreamClusters until ctx ends, and returns when every agent has ended and its Lease is released.
func Run(ctx context.Context, o Options) error {
	metrics, err := agent.NewMetrics(o.Registerer)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	gauges, err := newGauges(o.Registerer)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	mgr, err := newManager(ctx, o)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	direct, err := kubernetes.NewForConfig(central.Protobuf(o.Config))
	if err != nil {
		return fmt.Errorf("making the central client: %w", err)
	}
	c := &controller{
		client: mgr.GetClient(), direct: direct, recorder: mgr.GetEventRecorder("gimbal-discovery"),
		options: o, metrics: metrics, gauges: gauges, logger: o.Logger, clock: o.Clock,
		namespaces: central.NewNamespaces(),
		spread:     lease.NewSpread(),
		tenures:    map[string]*tenure{},
	}
	c.ranges = central.NewRanges(c.rangesChanged)
	if err := c.setUp(ctx, mgr); err != nil {
		return unlessEnded(ctx, err)
	}
	agents, stop := context.WithCancel(ctx)
	defer stop()
	c.root = agents
	restored := central.NewRestoreDetector(direct, c.clock, c.logger, func() {
		for _, r := range c.agents() {
			r.agent.Relist()
		}
	})
	c.competing.Go(func() { restored.Run(agents) })
	err = mgr.Start(ctx)
	stop()
	c.competing.Wait()
	return err
}

// unlessEnded returns an error, but for one of a start that was ended: that is no failure.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func newManager(ctx context.Context, o Options) (manager.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	own := cache.ByObject{Namespaces: map[string]cache.Config{o.Namespace: {}}}
	mgr, err := ctrl.NewManager(o.Config, manager.Options{
		Scheme:                 scheme,
		Logger:                 logr.FromSlogHandler(o.Logger.Handler()),
		Metrics:                server.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress: o.ProbeAddress,
		PprofBindAddress:       o.PprofAddress,
		Controller:             config.Controller{SkipNameValidation: ptr.To(true)},
		// Discovery takes no context: against a server that hangs it would outlive the command.
		MapperProvider: func(c *rest.Config, _ *http.Client) (meta.RESTMapper, error) {
			c = bound.To(ctx, c)
			h, err := rest.HTTPClientFor(c)
			if err != nil {
				return nil, err
			}
			return apiutil.NewDynamicRESTMapper(c, h)
		},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&v1alpha1.UpstreamCluster{}: own,
				&corev1.Secret{}:            own,
				&corev1.Node{}:              {Transform: central.TrimNode},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("reaching the central cluster: %w", err)
	}
	return mgr, nil
}

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
	err = errors.Join(
		ctl.Watch(source.Kind[client.Object](mgr.GetCache(), &v1alpha1.UpstreamCluster{}, handler.EnqueueRequestsFromMapFunc(c.related))),
		ctl.Watch(source.Kind[client.Object](mgr.GetCache(), &corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(c.usersOf))),
		ctl.Watch(source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			c.queue = q
			return nil
		})),
		c.watchNamespaces(ctx, mgr),
		c.watchRanges(ctx, mgr),
		mgr.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		mgr.AddReadyzCheck("upstreams", func(r *http.Request) error {
			if !mgr.GetCache().WaitForCacheSync(r.Context()) {
				return errors.New("the central cluster is still being listed")
			}
			return c.Ready(r.Context())
		}),
	)
	return err
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
	informer, err := mgr.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching namespaces: %w", err)
	}
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
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { set(o, true) },
		UpdateFunc: func(_, o any) { set(o, true) },
		DeleteFunc: func(o any) { set(o, false) },
	})
	return err
}

// watchRanges keeps the central cluster's own address ranges, before the first upstream is served and ever after.
func (c *controller) watchRanges(ctx context.Context, mgr manager.Manager) error {
	if err := c.ranges.Read(ctx, mgr.GetAPIReader()); err != nil {
		return fmt.Errorf("reading the central cluster's address ranges: %w", err)
	}
	kinds := []client.Object{&corev1.Node{}}
	gk := schema.GroupKind{Group: networkingv1.GroupName, Kind: "ServiceCIDR"}
	if _, err := mgr.GetRESTMapper().RESTMapping(gk, "v1"); err == nil {
		kinds = append(kinds, &networkingv1.ServiceCIDR{})
	}
	for _, kind := range kinds {
		informer, err := mgr.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(c.ranges.Handler()); err != nil {
			return err
		}
	}
	return nil
}
