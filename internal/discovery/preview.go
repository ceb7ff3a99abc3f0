package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Action is what an agent would do with one upstream Service.
type Action string

// The actions.
const (
	ActionCreate Action = "create" // make its central Service and slices
	ActionChange Action = "change" // bring them up to date
	ActionDelete Action = "delete" // remove them: the upstream no longer has the Service
	ActionHold   Action = "hold"   // not remove them: the deletion guard holds
	ActionWait   Action = "wait"   // nothing, for want of a central namespace
	ActionRefuse Action = "refuse" // nothing, or not all of it, for the reason given
)

// Step is one thing that an agent would do, or refuse to.
type Step struct {
	Action    Action `json:"action"`
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Central   string `json:"central"`
	Reason    string `json:"reason,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

// Preview is what an agent would do for an upstream if it ran now.
type Preview struct {
	Upstream  string `json:"upstream"`
	Unchanged int    `json:"unchanged"`
	Steps     []Step `json:"steps"`
}

// PreviewOptions say whose preview is made, and how long its listing may take.
type PreviewOptions struct {
	Config   *rest.Config
	Upstream *v1alpha1.UpstreamCluster
	Policy   Policy
	Timeout  time.Duration
	Logger   *slog.Logger
}

// NewPreview reads the upstream and the central cluster once and says what an agent
// would do. It writes nothing.
func NewPreview(ctx context.Context, o PreviewOptions) (*Preview, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	reader, err := client.New(o.Config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the central cluster: %w", err)
	}
	direct, err := kubernetes.NewForConfig(protobuf(o.Config))
	if err != nil {
		return nil, fmt.Errorf("reaching the central cluster: %w", err)
	}
	ok, err := acceptOnce(ctx, reader, o)
	if err != nil {
		return nil, err
	}
	source, err := ok.Source()
	if err != nil {
		return nil, fmt.Errorf("making the client of upstream %s: %w", o.Upstream.Name, err)
	}
	stop, err := listOnce(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("listing upstream %s: %w", o.Upstream.Name, err)
	}
	defer stop()
	p := &preview{client: direct, source: source, rules: ok.Rules, guard: ok.Guard, backend: o.Upstream.Name}
	return p.build(ctx)
}

// acceptOnce checks the UpstreamCluster as the engine would.
func acceptOnce(ctx context.Context, c client.Reader, o PreviewOptions) (*accepted, error) {
	uc := o.Upstream
	var all v1alpha1.UpstreamClusterList
	if err := c.List(ctx, &all, client.InNamespace(uc.Namespace)); err != nil {
		return nil, fmt.Errorf("listing UpstreamClusters: %w", err)
	}
	if rejected := ambiguous(uc, all.Items); rejected != nil {
		return nil, rejected
	}
	var secret *corev1.Secret
	if name := credentials(uc); name != "" {
		secret = &corev1.Secret{}
		err := c.Get(ctx, client.ObjectKey{Namespace: uc.Namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			secret = nil
		} else if err != nil {
			return nil, fmt.Errorf("reading Secret %s/%s: %w", uc.Namespace, name, err)
		}
	}
	central, err := centralRanges(ctx, c, o.Policy.CentralCIDRs)
	if err != nil {
		return nil, fmt.Errorf("reading the central cluster's address ranges: %w", err)
	}
	return accept(uc, secret, o.Policy, central, o.Logger)
}

// listOnce runs a source until its first complete view. stop ends it.
func listOnce(ctx context.Context, s upstream.Source) (stop func(), err error) {
	run, cancel := context.WithCancel(ctx)
	first := &firstView{complete: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(run, first) // ends with run, and says nothing else
	}()
	stop = func() { cancel(); <-done }
	select {
	case <-first.complete:
		return stop, nil
	case <-ctx.Done():
		stop()
		if failure := first.failure(); failure != nil {
			return nil, failure
		}
		return nil, ctx.Err()
	}
}

// firstView is an upstream.Observer that waits for the first complete view.
type firstView struct {
	once     sync.Once
	complete chan struct{}
	mu       sync.Mutex
	last     *upstream.Error
}

func (*firstView) Update(_ upstream.Urgency, change func() []mirror.Key) { change() }
func (*firstView) Polled(upstream.Cycle)                                 {}
func (f *firstView) Complete()                                           { f.once.Do(func() { close(f.complete) }) }

func (f *firstView) Failed(err *upstream.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = err
}

func (f *firstView) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return nil
	}
	return f.last
}

type preview struct {
	client  kubernetes.Interface
	source  upstream.Source
	rules   mirror.Rules
	guard   mirror.Guard
	backend string
}

func (p *preview) build(ctx context.Context) (*Preview, error) {
	owned, err := listOwned(ctx, p.client, p.backend)
	if err != nil {
		return nil, fmt.Errorf("listing the central cluster: %w", err)
	}
	there, err := centralNamespaces(ctx, p.client)
	if err != nil {
		return nil, fmt.Errorf("listing the central cluster's namespaces: %w", err)
	}
	keys := p.source.Keys()
	for k := range owned {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, mirror.Key.Compare)
	out := &Preview{Upstream: p.backend, Steps: []Step{}}
	deletions, total := 0, 0
	for _, key := range slices.Compact(keys) {
		steps, err := p.steps(ctx, key, owned[key], there)
		if err != nil {
			return nil, err
		}
		if owned[key].Service != nil {
			total++
		}
		if len(steps) == 0 && !p.unknown(key, owned[key]) {
			out.Unchanged++
		}
		for _, s := range steps {
			if s.Action == ActionDelete {
				deletions++
			}
		}
		out.Steps = append(out.Steps, steps...)
	}
	if !p.guard.Allows(total, deletions) {
		for i := range out.Steps {
			if s := &out.Steps[i]; s.Action == ActionDelete {
				s.Action, s.Reason = ActionHold, "DeletionGuard"
				s.Detail = fmt.Sprintf("%d of %d Services would be deleted at once", deletions, total)
			}
		}
	}
	return out, nil
}

// unknown says whether it can't be said yet what there should be of a key that has nothing: it is in the middle of a change.
func (p *preview) unknown(key mirror.Key, current mirror.Objects) bool {
	s, ok := p.source.Service(key)
	return ok && s.Unsettled && current.Service == nil
}

// steps returns what would be done for one key; none if nothing.
func (p *preview) steps(ctx context.Context, key mirror.Key, current mirror.Objects, there map[string]bool) ([]Step, error) {
	step := Step{Namespace: key.Namespace, Service: key.Name, Central: mirror.ServiceName(p.backend, key)}
	var desired mirror.Objects
	var refused []mirror.Refusal
	if s, ok := p.source.Service(key); ok && s.Unsettled {
		desired, refused = current, s.Refusals // what there is stays
	} else if ok {
		desired, refused = p.rules.Desired(s)
	}
	if desired.Service != nil && !there[key.Namespace] {
		step.Action, step.Reason = ActionWait, "NamespaceMissing"
		step.Detail = fmt.Sprintf("kubectl create namespace %s", key.Namespace)
		return []Step{step}, nil
	}
	changes := mirror.Plan(desired, current)
	if desired.Service != nil && current.Service == nil {
		taken, err := p.taken(ctx, key.Namespace, step.Central)
		if err != nil {
			return nil, err
		}
		if taken {
			refusal, _ := refusedBy(key, p.backend, errTaken)
			refused, changes = append(refused, refusal), nil
		}
	}
	var steps []Step
	if len(changes) > 0 {
		step.Action, step.Detail = action(desired, current), detail(changes)
		steps = append(steps, step)
	}
	for _, r := range refused {
		s := step
		s.Action, s.Reason, s.Detail = ActionRefuse, string(r.Reason), r.Message
		steps = append(steps, s)
	}
	return steps, nil
}

// taken says whether a foreign Service has a name.
func (p *preview) taken(ctx context.Context, namespace, name string) (bool, error) {
	s, err := p.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading Service %s/%s: %w", namespace, name, err)
	}
	backend, _, ok := mirror.Owner(s)
	return !ok || backend != p.backend, nil
}

func action(desired, current mirror.Objects) Action {
	switch {
	case desired.Service == nil:
		return ActionDelete
	case current.Service == nil:
		return ActionCreate
	}
	return ActionChange
}

// detail says in a few words what a key's changes are.
func detail(changes []mirror.Change) string {
	var parts []string
	for _, c := range changes {
		part := string(c.Verb) + " Service"
		if c.Slice != nil {
			part = string(c.Verb) + " slice " + c.Slice.Name
		}
		if len(c.Why) > 0 {
			part += " (" + strings.Join(c.Why, ", ") + ")"
		}
		parts = append(parts, part)
	}
	const most = 4
	if more := len(parts) - most; more > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}

// centralNamespaces returns the namespaces in which objects can be created.
func centralNamespaces(ctx context.Context, c kubernetes.Interface) (map[string]bool, error) {
	there := map[string]bool{}
	return there, pages(metav1.ListOptions{Limit: pageSize}, func(o metav1.ListOptions) (string, error) {
		list, err := c.CoreV1().Namespaces().List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if n := &list.Items[i]; n.DeletionTimestamp.IsZero() {
				there[n.Name] = true
			}
		}
		return list.Continue, nil
	})
}
