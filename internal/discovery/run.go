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
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/bound"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/lease"
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
		NewCache:               newPromptCache,
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
