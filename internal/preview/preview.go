// Package preview says what an agent would do for an upstream if it ran now. It writes nothing.
package preview

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Action is what an agent would do with one upstream Service.
type Action string

// The actions.
const (
	Create Action = "create" // make its central Service and slices
	Change Action = "change" // bring them up to date
	Delete Action = "delete" // remove them: the upstream no longer has the Service
	Hold   Action = "hold"   // not remove them, or their endpoints: the deletion guard holds
	Wait   Action = "wait"   // nothing, for want of a central namespace
	Refuse Action = "refuse" // nothing, or not all of it, for the reason given
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
	// Note says what keeps the agent from doing any of it; empty if nothing does.
	Note string `json:"note,omitempty"`
}

// Options say whose preview is made, and how.
type Options struct {
	// Reader and Client read the central cluster. Nothing is written; updates are tried without
	// effect (dry run), as an agent does when it starts, where the user may.
	Reader   client.Reader
	Client   kubernetes.Interface
	Upstream *v1alpha1.UpstreamCluster
	Policy   accept.Policy
	Logger   *slog.Logger
}

// New reads the upstream and the central cluster once and says what an agent would do.
func New(ctx context.Context, o Options) (*Preview, error) {
	ok, err := accepted(ctx, o)
	if err != nil {
		return nil, err
	}
	source, err := ok.NewSource()
	if err != nil {
		return nil, fmt.Errorf("making the client of upstream %s: %w", o.Upstream.Name, err)
	}
	stop, err := list(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("listing upstream %s: %w", o.Upstream.Name, err)
	}
	defer stop()
	p := &preview{Options: o, source: source, rules: ok.Rules}
	if err := p.readCentral(ctx); err != nil {
		return nil, err
	}
	p.judge(ok)
	return p.build(ctx)
}

// accepted checks the UpstreamCluster as the engine would.
func accepted(ctx context.Context, o Options) (*accept.Accepted, error) {
	uc := o.Upstream
	var all v1alpha1.UpstreamClusterList
	if err := o.Reader.List(ctx, &all, client.InNamespace(uc.Namespace)); err != nil {
		return nil, fmt.Errorf("listing UpstreamClusters: %w", err)
	}
	var secret *corev1.Secret
	if name := o.Policy.Secret(uc); name != "" {
		secret = &corev1.Secret{}
		err := o.Reader.Get(ctx, client.ObjectKey{Namespace: uc.Namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			secret = nil
		} else if err != nil {
			return nil, fmt.Errorf("reading Secret %s/%s: %w", uc.Namespace, name, err)
		}
	}
	ranges := central.NewRanges(nil)
	if err := ranges.Read(ctx, o.Reader); err != nil {
		return nil, fmt.Errorf("reading the central cluster's address ranges: %w", err)
	}
	return accept.Upstream(uc, all.Items, secret, o.Policy, accept.Central{
		Ranges: slices.Concat(o.Policy.CentralCIDRs, ranges.Prefixes()), Families: ranges.Families(),
	}, o.Logger)
}

// preview is what was read.
type preview struct {
	Options
	source     upstream.Source
	rules      mirror.Rules
	owned      map[mirror.Key]mirror.Objects
	namespaces map[string]bool
	guards     *mirror.Guards
	services   int // central ones
}

func (p *preview) readCentral(ctx context.Context) (err error) {
	if p.owned, err = central.ListOwned(ctx, p.Client, central.Upstream(p.Upstream.Name)); err != nil {
		return fmt.Errorf("listing the central cluster: %w", err)
	}
	if p.namespaces, err = central.ListNamespaces(ctx, p.Client); err != nil {
		return fmt.Errorf("listing the central cluster's namespaces: %w", err)
	}
	return nil
}

// keys returns every key that either side has.
func (p *preview) keys() []mirror.Key {
	keys := slices.AppendSeq(p.source.Keys(), maps.Keys(p.owned))
	slices.SortFunc(keys, mirror.Key.Compare)
	return slices.Compact(keys)
}

// judge has the guards judge as the agent's would: a hold that is in force stays so. What was deleted
// within the last minutes isn't known.
func (p *preview) judge(ok *accept.Accepted) {
	status := &p.Upstream.Status
	p.guards = mirror.NewGuards(ok.Guard, ok.HoldLosses, mirror.InForce{Deletions: status.HeldDeletions > 0, Losses: status.HeldEndpoints > 0})
	now := time.Now()
	for _, key := range p.keys() {
		o, has := p.owned[key], mirror.Holding{}
		if has.Service = o.Service != nil; has.Service {
			p.services++
		}
		for _, es := range o.Slices {
			has.Ready += mirror.ReadyEndpoints(es.Endpoints)
		}
		said, _ := p.source.Service(key)
		p.guards.Note(key, said, has, p.rules, now)
	}
	p.guards.Judge(p.services, now)
}

// otherCluster says what is wrong where another cluster answers than the central objects are of.
func (p *preview) otherCluster() string {
	was, is := p.Upstream.Status.Identity, p.source.Identity()
	if was == "" || is == "" || was == is {
		return ""
	}
	return fmt.Sprintf("another cluster answers: the central objects are of %s, and it is %s; nothing is done until that is confirmed", was, is)
}

func (p *preview) build(ctx context.Context) (*Preview, error) {
	out := &Preview{Upstream: p.Upstream.Name, Steps: []Step{}, Note: p.otherCluster()}
	for _, key := range p.keys() {
		said, ok := p.source.Service(key)
		d := mirror.Decide(key, said, p.owned[key], mirror.World{
			Rules: p.rules, Namespace: p.namespaces[key.Namespace], OtherCluster: out.Note != "",
		}, p.guards)
		p.rehearse(ctx, key, &d)
		d, err := p.checkName(ctx, key, d)
		if err != nil {
			return nil, err
		}
		steps := p.steps(key, d)
		// Of a Service that is being changed and that the central cluster doesn't have nothing can be said.
		if len(steps) == 0 && (!ok || !said.Unsettled || p.owned[key].Service != nil) {
			out.Unchanged++
		}
		out.Steps = append(out.Steps, steps...)
	}
	return out, nil
}

// rehearse leaves out updates that would change nothing: an admission policy makes the objects
// what they are already.
func (p *preview) rehearse(ctx context.Context, key mirror.Key, d *mirror.Decision) {
	w := central.NewWriter(central.WriterOptions{Client: p.Client})
	current := p.owned[key]
	d.Changes = slices.DeleteFunc(d.Changes, func(c mirror.Change) bool {
		if c.Verb != mirror.Update {
			return false
		}
		if c.Service != nil {
			return w.Rehearse(ctx, c, current.Service)
		}
		at := slices.IndexFunc(current.Slices, func(es *discoveryv1.EndpointSlice) bool { return es.Name == c.Slice.Name })
		return at >= 0 && w.Rehearse(ctx, c, current.Slices[at])
	})
	if d.Action == mirror.Apply && len(d.Changes) == 0 {
		d.Action = mirror.Keep
	}
}

// checkName makes the creation of a Service whose name a foreign one has a refusal, which
// the agent learns from the API server.
func (p *preview) checkName(ctx context.Context, key mirror.Key, d mirror.Decision) (mirror.Decision, error) {
	if d.Action != mirror.Apply || d.Changes[0].Service == nil || d.Changes[0].Verb != mirror.Create {
		return d, nil
	}
	name := d.Changes[0].Service.Name
	s, err := p.Client.CoreV1().Services(key.Namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return d, nil
	case err != nil:
		return d, fmt.Errorf("reading Service %s/%s: %w", key.Namespace, name, err)
	}
	if backend, _, ok := mirror.Owner(s); ok && backend == p.Upstream.Name {
		return d, nil
	}
	return mirror.Decision{Action: mirror.Keep, Judged: true, Refusals: append(d.Refusals, mirror.NameTaken(p.Upstream.Name, key))}, nil
}

// steps returns what a decision does, for people; none if nothing.
func (p *preview) steps(key mirror.Key, d mirror.Decision) []Step {
	step := Step{Namespace: key.Namespace, Service: key.Name, Central: mirror.ServiceName(p.Upstream.Name, key)}
	var steps []Step
	add := func(a Action, reason, detail string) {
		s := step
		s.Action, s.Reason, s.Detail = a, reason, detail
		steps = append(steps, s)
	}
	switch d.Action {
	case mirror.Wait:
		add(Wait, "NamespaceMissing", "kubectl create namespace "+key.Namespace)
	case mirror.Hold:
		if len(d.Changes) > 0 {
			add(Change, "", detail(d.Changes))
		}
		if d.Deletes {
			add(Hold, "DeletionGuard", fmt.Sprintf("%d of %d Services would be deleted at once", p.guards.Deletions.Held(), p.services))
		} else {
			add(Hold, "DeletionGuard", fmt.Sprintf("%d of %d Services would lose their last ready endpoint at once", p.guards.Losses.Held(), p.services))
		}
	case mirror.Apply:
		add(actionOf(d, p.owned[key].Service != nil), "", detail(d.Changes))
	}
	for _, r := range d.Refusals {
		add(Refuse, string(r.Reason), r.Message)
	}
	return steps
}

// actionOf says in one word what changes do, given whether the central cluster has the Service.
func actionOf(d mirror.Decision, has bool) Action {
	switch first := d.Changes[0]; {
	case d.Deletes, !has && allDelete(d.Changes): // slices that a Service left behind go, too
		return Delete
	case first.Service != nil && first.Verb == mirror.Create:
		return Create
	}
	return Change
}

func allDelete(changes []mirror.Change) bool {
	return !slices.ContainsFunc(changes, func(c mirror.Change) bool { return c.Verb != mirror.Delete })
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
