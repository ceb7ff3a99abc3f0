package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// What the engine does in the central cluster, and nothing more:
//
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups="",resources=namespaces;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups=gimbal.projectcontour.io,resources=upstreamclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups=gimbal.projectcontour.io,resources=upstreamclusters/status,verbs=patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups=coordination.k8s.io,resources=leases,verbs=get;create;update;delete

// controller serves the UpstreamClusters of one namespace: it competes for the
// Lease of each, and for those it leads it checks the spec, runs the agent,
// reports the status and cleans up in the end.
type controller struct {
	client   client.Client        // reads from the cache
	direct   kubernetes.Interface // writes mirrored objects, holds Leases
	recorder events.EventRecorder
	options  Options
	metrics  *Metrics
	logger   *slog.Logger
	clock    clock.WithTicker

	namespaces *namespaces
	spread     *spread
	queue      workqueue.TypedRateLimitingInterface[reconcile.Request]

	mu         sync.Mutex
	contenders map[string]*running
	ranges     []netip.Prefix
	running    sync.WaitGroup
	root       context.Context
}

type running struct {
	*contender
	cancel      context.CancelFunc
	statusWrite time.Time
	served      atomic.Bool // since the Lease was won last
}

// decided says whether the Lease is another's, or the upstream has been served since it is ours.
func (r *running) decided() bool {
	return r.lock.tried.Load() && (r.lock.renewed.Load() == nil || r.served.Load())
}

// notify has an upstream looked at again after a pause; several calls within it are one.
func (c *controller) notify(upstream string, after time.Duration) {
	c.queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.options.Namespace, Name: upstream}}, after)
}

// Reconcile implements reconcile.Reconciler.
func (c *controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if !c.serves(request.Name) {
		return reconcile.Result{}, nil
	}
	var uc v1alpha1.UpstreamCluster
	if err := c.client.Get(ctx, request.NamespacedName, &uc); err != nil {
		if apierrors.IsNotFound(err) {
			c.retire(request.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	r := c.compete(uc.Name)
	if !r.Leads() {
		return reconcile.Result{}, nil
	}
	result, err := c.serve(ctx, r, &uc)
	r.served.Store(true)
	switch {
	case ctx.Err() != nil: // a graceful end is no failure
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err): // the cache was behind
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return result, err
}

// compete returns the upstream's contender, started if need be.
func (c *controller) compete(name string) *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.contenders[name]; r != nil {
		return r
	}
	ctx, cancel := context.WithCancel(c.root)
	r := &running{cancel: cancel}
	ledChanged := func(won bool) {
		c.metrics.leading.Set(float64(c.leads()))
		if !won {
			r.served.Store(false)
			c.metrics.accepted.DeleteLabelValues(name)
		}
		c.notify(name, 0)
	}
	r.contender = newContender(name, c.options.Namespace, c.options.Identity, c.direct.CoordinationV1(),
		c.options.lease(), c.spread, c.logger, ledChanged)
	c.contenders[name] = r
	c.running.Go(func() {
		r.Run(ctx)
		c.metrics.accepted.DeleteLabelValues(name)
		if c.root.Err() == nil {
			c.dropLease(name)
		}
	})
	return r
}

// retire ends competing for an upstream that is gone.
func (c *controller) retire(name string) {
	c.mu.Lock()
	r := c.contenders[name]
	delete(c.contenders, name)
	c.mu.Unlock()
	if r != nil {
		r.cancel()
	}
}

// dropLease removes the Lease of an upstream that is gone. What stays of it after a failure does no harm.
func (c *controller) dropLease(name string) {
	ctx, cancel := context.WithTimeout(c.root, c.options.LeaseDuration)
	defer cancel()
	err := c.direct.CoordinationV1().Leases(c.options.Namespace).Delete(ctx, leaseName(name), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		c.logger.Warn("the Lease of a removed upstream stays", "upstream", name, "error", err)
	}
}

func (c *controller) leads() int {
	n := 0
	for _, r := range c.all() {
		if r.Leads() {
			n++
		}
	}
	return n
}

func (c *controller) all() []*running {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*running, 0, len(c.contenders))
	for _, r := range c.contenders {
		all = append(all, r)
	}
	return all
}

// agents returns the agents that run in this replica.
func (c *controller) agents() []*agent {
	var agents []*agent
	for _, r := range c.all() {
		if a, _ := r.Agent(); a != nil {
			agents = append(agents, a)
		}
	}
	return agents
}

// serve brings one upstream that this replica leads to what its spec says.
func (c *controller) serve(ctx context.Context, r *running, uc *v1alpha1.UpstreamCluster) (reconcile.Result, error) {
	if !uc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, c.finalize(ctx, r, uc)
	}
	if !controllerutil.ContainsFinalizer(uc, v1alpha1.Finalizer) {
		before := uc.DeepCopy()
		controllerutil.AddFinalizer(uc, v1alpha1.Finalizer)
		if err := c.client.Patch(ctx, uc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	before := uc.DeepCopy()
	if uc.Spec.Paused {
		stopReporting(r, uc)
		reportPaused(&uc.Status, uc.Generation)
		return c.writeStatus(ctx, r, uc, before)
	}
	err := c.ensureAgent(ctx, r, uc)
	if rejected := (*rejection)(nil); errors.As(err, &rejected) {
		stopReporting(r, uc)
		c.metrics.accepted.WithLabelValues(uc.Name).Set(0)
		reportRejected(&uc.Status, uc.Generation, rejected)
		return c.writeStatus(ctx, r, uc, before)
	} else if err != nil {
		return reconcile.Result{}, err
	}
	a, _ := r.Agent()
	if a == nil {
		return reconcile.Result{}, nil // the Lease was lost meanwhile
	}
	if err := c.confirm(ctx, a, uc); err != nil {
		return reconcile.Result{}, err
	}
	c.metrics.accepted.WithLabelValues(uc.Name).Set(1)
	reportAgent(uc, a.Snapshot())
	return c.writeStatus(ctx, r, uc, before)
}

// stopReporting ends the upstream's agent, if there is one, with its last counts in the status.
func stopReporting(r *running, uc *v1alpha1.UpstreamCluster) {
	if a, _ := r.Agent(); a != nil {
		r.StopAgent()
		reportAgent(uc, a.Snapshot())
		a.Metrics.forget(a.Name)
	}
}

// ensureAgent makes the upstream's agent run with what its spec and Secret say now.
func (c *controller) ensureAgent(ctx context.Context, r *running, uc *v1alpha1.UpstreamCluster) error {
	var all v1alpha1.UpstreamClusterList
	if err := c.client.List(ctx, &all, client.InNamespace(c.options.Namespace)); err != nil {
		return err
	}
	if rejected := ambiguous(uc, all.Items); rejected != nil {
		return rejected
	}
	secret, err := c.secret(ctx, uc)
	if err != nil {
		return err
	}
	logger := c.logger.With("upstream", uc.Name)
	ok, err := accept(uc, secret, c.options.Policy, c.centralRanges(), logger)
	if err != nil {
		return err
	}
	if a, fingerprint := r.Agent(); a != nil && fingerprint == ok.Fingerprint {
		return nil
	}
	source, err := ok.Source()
	if err != nil {
		return fmt.Errorf("making the client of upstream %s: %w", uc.Name, err)
	}
	r.StopAgent()
	name := uc.Name // the object itself is written to later on
	options := agentOptions{
		Name: name, Source: source, AllowedCIDRs: uc.Spec.AllowedCIDRs, Client: c.direct, Rules: ok.Rules, Guard: ok.Guard,
		Holding: uc.Status.HeldDeletions > 0, Taken: taken(uc), StaleAfter: ok.StaleAfter,
		Workers: c.options.Workers, Namespaces: c.namespaces,
		Metrics: c.metrics, Logger: logger, Clock: c.clock,
		Leads:   r.Leads,
		Refused: c.refusedEvents(uc),
		Dirty:   func() { c.notify(name, 250*time.Millisecond) },
	}
	if last := uc.Status.LastCompleteSync; last != nil {
		options.LastView = last.Time
	}
	r.StartAgent(newAgent(options), ok.Fingerprint)
	return nil
}

// taken returns the keys whose central names were found taken, as far as the status lists them.
func taken(uc *v1alpha1.UpstreamCluster) map[mirror.Key]bool {
	keys := map[mirror.Key]bool{}
	for _, r := range uc.Status.Refusals {
		if r.Reason == string(mirror.ReasonNameTaken) {
			keys[mirror.Key{Namespace: r.Namespace, Name: r.Service}] = true
		}
	}
	return keys
}

func (c *controller) secret(ctx context.Context, uc *v1alpha1.UpstreamCluster) (*corev1.Secret, error) {
	name := credentials(uc)
	if name == "" {
		return nil, nil
	}
	var secret corev1.Secret
	err := c.client.Get(ctx, client.ObjectKey{Namespace: uc.Namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &secret, err
}

// credentials returns the name of the Secret that an UpstreamCluster uses.
func credentials(uc *v1alpha1.UpstreamCluster) string {
	switch spec := &uc.Spec; {
	case spec.Kubernetes != nil:
		return spec.Kubernetes.KubeconfigSecret.Name
	case spec.OpenStack != nil:
		return spec.OpenStack.CloudsSecret.Name
	}
	return ""
}

// finalize ends the upstream's agent, removes its central objects unless they are to stay, and lets the UpstreamCluster go.
func (c *controller) finalize(ctx context.Context, r *running, uc *v1alpha1.UpstreamCluster) error {
	if !controllerutil.ContainsFinalizer(uc, v1alpha1.Finalizer) {
		return nil
	}
	r.StopAgent()
	if uc.Spec.DeletionPolicy != v1alpha1.DeletionPolicyRetain {
		if err := removeAll(ctx, c.direct, c.metrics, uc.Name, r.Leads); err != nil {
			return fmt.Errorf("removing the central objects of upstream %s: %w", uc.Name, err)
		}
	}
	before := uc.DeepCopy()
	controllerutil.RemoveFinalizer(uc, v1alpha1.Finalizer)
	if err := c.client.Patch(ctx, uc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	c.metrics.forget(uc.Name) // the removal wrote, too
	c.logger.Info("upstream removed", "upstream", uc.Name, "deletionPolicy", uc.Spec.DeletionPolicy)
	return nil
}

// SetRanges gives every agent the central cluster's ranges.
func (c *controller) SetRanges(ranges []netip.Prefix) {
	c.mu.Lock()
	same := slices.Equal(c.ranges, ranges)
	c.ranges = ranges
	c.mu.Unlock()
	if same {
		return
	}
	for _, a := range c.agents() {
		if p, err := mirror.NewAddressPolicy(a.AllowedCIDRs, ranges); err == nil {
			a.SetAddresses(p)
		}
	}
}

func (c *controller) centralRanges() []netip.Prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ranges
}

// Ready returns an error until this replica has tried for the Lease of every upstream
// and has listed each one that it serves, or found it unreadable.
func (c *controller) Ready(ctx context.Context) error {
	var all v1alpha1.UpstreamClusterList
	if err := c.client.List(ctx, &all, client.InNamespace(c.options.Namespace)); err != nil {
		return err
	}
	for i := range all.Items {
		name := all.Items[i].Name
		c.mu.Lock()
		r := c.contenders[name]
		c.mu.Unlock()
		if c.serves(name) && (r == nil || !r.decided()) {
			return fmt.Errorf("upstream %s hasn't been looked at yet", name)
		}
	}
	for _, a := range c.agents() {
		if s := a.Snapshot(); !s.Started && s.Failure == nil {
			return fmt.Errorf("upstream %s is still being listed", a.Name)
		}
	}
	return nil
}

// serves says whether an upstream is one of those that this process is for.
func (c *controller) serves(upstream string) bool {
	return len(c.options.Upstreams) == 0 || slices.Contains(c.options.Upstreams, upstream)
}
