package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/lease"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// What the controller does in the central cluster; central and lease say the rest:
//
// +kubebuilder:rbac:groups="",resources=namespaces;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups=gimbal.projectcontour.io,resources=upstreamclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups=gimbal.projectcontour.io,resources=upstreamclusters/status,verbs=patch
// +kubebuilder:rbac:namespace=gimbal-discovery,groups="",resources=secrets,verbs=get;list;watch

// controller serves the UpstreamClusters of one namespace: it competes for the
// Lease of each, and for those it leads it checks the spec, runs the agent,
// reports the status and cleans up in the end.
type controller struct {
	client   client.Client        // reads from the cache
	direct   kubernetes.Interface // writes mirrored objects, holds Leases
	recorder events.EventRecorder
	options  Options
	metrics  *agent.Metrics
	gauges   gauges
	logger   *slog.Logger
	clock    clock.WithTicker

	namespaces *central.Namespaces
	ranges     *central.Ranges
	spread     *lease.Spread
	requests   requests

	mu        sync.Mutex
	tenures   map[string]*tenure
	competing sync.WaitGroup
	root      context.Context
}

// statusDelay is how long after a change the status is looked at: several changes within it are one.
const statusDelay = 250 * time.Millisecond

// notify requeues an upstream after a delay; calls in between coalesce.
func (c *controller) notify(upstream string, after time.Duration) {
	c.requests.add(after, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.options.Namespace, Name: upstream}})
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
	t, err := c.compete(uc.Name)
	if err != nil || !t.Leads() {
		return reconcile.Result{}, err
	}
	result, err := c.serve(ctx, t, &uc)
	t.served.Store(true)
	switch {
	case ctx.Err() != nil: // a graceful end is no failure
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err): // the cache was behind
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return result, err
}

// compete returns the upstream's tenure, begun if need be.
func (c *controller) compete(name string) (*tenure, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tenures[name]; t != nil {
		return t, nil
	}
	t := &tenure{changed: func() { c.notify(name, 0) }}
	contender, err := lease.New(lease.Options{
		Name: name, Namespace: c.options.Namespace, Identity: c.options.Identity, Client: c.direct.CoordinationV1(),
		Times: lease.TimesFor(c.options.LeaseDuration), Spread: c.spread, Logger: c.logger,
		Won: func(led context.Context) {
			t.won(led)
			c.gauges.leading.Set(float64(c.leads()))
			c.notify(name, 0)
		},
		Lost: func() {
			t.lost()
			c.gauges.leading.Set(float64(c.leads()))
			c.gauges.accepted.DeleteLabelValues(name)
			c.notify(name, 0)
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(c.root)
	t.Contender, t.withdraw = contender, cancel
	c.tenures[name] = t
	c.competing.Go(func() {
		t.Run(ctx)
		c.gauges.accepted.DeleteLabelValues(name)
		if c.root.Err() == nil {
			c.dropLease(name)
		}
	})
	return t, nil
}

// retire ends competing for an upstream that is gone.
func (c *controller) retire(name string) {
	c.mu.Lock()
	t := c.tenures[name]
	delete(c.tenures, name)
	c.mu.Unlock()
	if t != nil {
		t.withdraw()
	}
}

// dropLease removes the Lease of an upstream that is gone. What stays of it after a failure does no harm.
func (c *controller) dropLease(name string) {
	ctx, cancel := context.WithTimeout(c.root, c.options.LeaseDuration)
	defer cancel()
	if err := lease.Delete(ctx, c.direct, c.options.Namespace, name); err != nil {
		c.logger.Warn("the Lease of a removed upstream stays", "upstream", name, "error", err)
	}
}

// leads returns how many upstreams' Leases this replica holds.
func (c *controller) leads() (n int) {
	for _, t := range c.all() {
		if t.Leads() {
			n++
		}
	}
	return n
}

func (c *controller) all() []*tenure {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*tenure, 0, len(c.tenures))
	for _, t := range c.tenures {
		all = append(all, t)
	}
	return all
}

// agents returns the agents that run in this replica.
func (c *controller) agents() []*running {
	var agents []*running
	for _, t := range c.all() {
		if r := t.Agent(); r != nil {
			agents = append(agents, r)
		}
	}
	return agents
}

// serve brings one upstream that this replica leads to what its spec says.
func (c *controller) serve(ctx context.Context, t *tenure, uc *v1alpha1.UpstreamCluster) (reconcile.Result, error) {
	if !uc.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, c.finalize(ctx, t, uc)
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
		stopReporting(t, uc)
		reportPaused(&uc.Status, uc.Generation)
		return c.writeStatus(ctx, t, uc, before)
	}
	r, err := c.ensureAgent(ctx, t, uc)
	if rejected := (*upstream.Rejection)(nil); errors.As(err, &rejected) {
		stopReporting(t, uc)
		c.gauges.accepted.WithLabelValues(uc.Name).Set(0)
		reportRejected(&uc.Status, uc.Generation, rejected.Reason, err.Error())
		return c.writeStatus(ctx, t, uc, before)
	} else if err != nil {
		return reconcile.Result{}, err
	}
	if r == nil {
		return reconcile.Result{}, nil // the agent before it is ending, or the Lease was lost
	}
	if err := c.confirm(ctx, r.agent, uc); err != nil {
		return reconcile.Result{}, err
	}
	c.gauges.accepted.WithLabelValues(uc.Name).Set(1)
	reportAgent(uc, r.agent.Snapshot(), accept.FamiliesNote(uc, c.central()))
	c.announce(uc, &before.Status)
	return c.writeStatus(ctx, t, uc, before)
}

// stopReporting ends the upstream's agent, if there is one, with its last counts in the status.
func stopReporting(t *tenure, uc *v1alpha1.UpstreamCluster) {
	if r := t.Agent(); r != nil {
		t.Stop()
		reportAgent(uc, r.agent.Snapshot(), "")
	}
}

// ensureAgent has the upstream's agent run with what its spec and Secret say now. It
// returns nil while an agent before it is ending.
func (c *controller) ensureAgent(ctx context.Context, t *tenure, uc *v1alpha1.UpstreamCluster) (*running, error) {
	var all v1alpha1.UpstreamClusterList
	if err := c.client.List(ctx, &all, client.InNamespace(c.options.Namespace)); err != nil {
		return nil, err
	}
	secret, err := c.secret(ctx, uc)
	if err != nil {
		return nil, err
	}
	logger := c.logger.With("upstream", uc.Name)
	ok, err := accept.Upstream(uc, all.Items, secret, c.options.Policy, c.central(), logger)
	if err != nil {
		return nil, err
	}
	if r := t.Agent(); r != nil && r.fingerprint == ok.Fingerprint {
		return r, nil
	}
	if !t.Stop() {
		return nil, nil
	}
	source, err := ok.NewSource()
	if err != nil {
		return nil, fmt.Errorf("making the client of upstream %s: %w", uc.Name, err)
	}
	t.Start(&running{agent: c.newAgent(t, uc, ok, source, logger), upstream: uc.DeepCopy(), fingerprint: ok.Fingerprint})
	r := t.Agent()
	if r != nil {
		// The ranges may have changed since they were read, and before the agent was there to be told.
		c.giveRules(r)
	}
	return r, nil
}

func (c *controller) newAgent(t *tenure, uc *v1alpha1.UpstreamCluster, ok *accept.Accepted, source upstream.Source, logger *slog.Logger) *agent.Agent {
	name := uc.Name // the object itself is written to later on
	return agent.New(agent.Config{
		Upstream: name, Source: source, Client: c.direct, Rules: ok.Rules,
		Guard: ok.Guard, HoldLosses: ok.HoldLosses, StaleAfter: ok.StaleAfter, Past: pastOf(&uc.Status),
		Workers: c.options.Workers, Namespaces: c.namespaces, Metrics: c.metrics, Logger: logger, Clock: c.clock,
		Leads:         t.Leads,
		Refused:       c.refusedEvents(uc),
		StatusChanged: func() { c.notify(name, statusDelay) },
	})
}

func (c *controller) secret(ctx context.Context, uc *v1alpha1.UpstreamCluster) (*corev1.Secret, error) {
	name := c.options.Policy.Secret(uc)
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

// finalize ends the upstream's agent, removes its central objects unless they are to stay, and lets the UpstreamCluster go.
func (c *controller) finalize(ctx context.Context, t *tenure, uc *v1alpha1.UpstreamCluster) error {
	if !controllerutil.ContainsFinalizer(uc, v1alpha1.Finalizer) || !t.Stop() {
		return nil
	}
	if uc.Spec.DeletionPolicy != v1alpha1.DeletionPolicyRetain {
		over, err := t.Remove(func(ctx context.Context) error {
			return central.RemoveAll(ctx, central.RemoveOptions{
				Client: c.direct, Owner: central.Upstream(uc.Name), Leads: t.Leads, Count: c.metrics.Written(uc.Name),
			})
		})
		if err != nil {
			return fmt.Errorf("removing the central objects of upstream %s: %w", uc.Name, err)
		}
		if !over {
			return nil
		}
	}
	before := uc.DeepCopy()
	controllerutil.RemoveFinalizer(uc, v1alpha1.Finalizer)
	if err := c.client.Patch(ctx, uc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	c.metrics.Forget(uc.Name) // the removal wrote, too
	c.logger.Info("upstream removed", "upstream", uc.Name, "deletionPolicy", uc.Spec.DeletionPolicy)
	return nil
}

// central returns what the central cluster shows of itself.
func (c *controller) central() accept.Central {
	return accept.Central{Ranges: slices.Concat(c.options.Policy.CentralCIDRs, c.ranges.Prefixes()), Families: c.ranges.Families()}
}

// rangesChanged gives every agent the central cluster's ranges, and has rejected upstreams looked at again.
func (c *controller) rangesChanged() {
	for _, r := range c.agents() {
		c.giveRules(r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.tenures {
		c.notify(name, 0)
	}
}

// giveRules gives an agent the rules as the central cluster is now.
func (c *controller) giveRules(r *running) {
	if rules, err := accept.Rules(r.upstream, c.options.Policy, c.central()); err == nil {
		r.agent.SetRules(rules)
	}
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
		t := c.tenures[name]
		c.mu.Unlock()
		if c.serves(name) && (t == nil || !t.decided()) {
			return fmt.Errorf("upstream %s hasn't been looked at yet", name)
		}
	}
	for _, r := range c.agents() {
		if s := r.agent.Snapshot(); !s.Started && s.Failure == nil {
			return fmt.Errorf("upstream %s is still being listed", r.upstream.Name)
		}
	}
	return nil
}

// decided says whether the Lease is another's, or the upstream has been served since it is ours.
func (t *tenure) decided() bool {
	return t.Decided() && (!t.Leads() || t.served.Load())
}

// serves says whether an upstream is one of those that this process is for.
func (c *controller) serves(upstream string) bool {
	return len(c.options.Upstreams) == 0 || slices.Contains(c.options.Upstreams, upstream)
}
