package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
)

const (
	singles = 200 // changes at rest
	bursts  = 500 // changes at once
	spacing = 2 * time.Millisecond
	atRest  = 40 * time.Millisecond
)

// made is a change that an API server has answered.
type made struct {
	token            string
	before, answered time.Time
}

// token returns an address that no endpoint has had.
func (w *world) token() string {
	w.changes++
	return fmt.Sprintf("%s%d.%d", tokens, w.changes>>8, w.changes&255)
}

// change replaces a slice's first endpoint by one with the address token.
func change(ctx context.Context, c kubernetes.Interface, slice **discoveryv1.EndpointSlice, token string) (made, error) {
	next := (*slice).DeepCopy()
	next.Endpoints[0].Addresses = []string{token}
	m := made{token: token, before: time.Now()}
	got, err := c.DiscoveryV1().EndpointSlices(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	m.answered = time.Now()
	if err == nil {
		*slice = got
	}
	return m, err
}

// latencies are the times until the central watch saw changes, from before each write and from its answer.
type latencies struct{ before, answer times }

func (w *world) latencies(ctx context.Context, all ...made) (l latencies, err error) {
	for _, m := range all {
		seen, err := w.seen.token(ctx, m.token)
		if err != nil {
			return l, err
		}
		l.before = append(l.before, seen.Sub(m.before))
		l.answer = append(l.answer, seen.Sub(m.answered))
	}
	return l, nil
}

func (l *latencies) add(m latencies) {
	l.before, l.answer = append(l.before, m.before...), append(l.answer, m.answer...)
}

// single makes one change and waits until it is seen.
func (w *world) single(ctx context.Context, c kubernetes.Interface, slice **discoveryv1.EndpointSlice) (latencies, error) {
	m, err := change(ctx, c, slice, w.token())
	if err != nil {
		return latencies{}, err
	}
	l, err := w.latencies(ctx, m)
	if err != nil {
		return l, err
	}
	return l, pause(ctx, atRest)
}

// singles makes changes one at a time, upstream for Gimbal and centrally by the plain client in turns.
func (w *world) singles(ctx context.Context) (gimbal, plain latencies, err error) {
	objects, err := w.plainWorld(ctx, singles)
	if err != nil {
		return gimbal, plain, err
	}
	for i := range singles {
		g, err := w.single(ctx, w.up, &w.apps[i*len(w.apps)/singles].slice)
		if err != nil {
			return gimbal, plain, err
		}
		p, err := w.single(ctx, w.plain, &objects[i].Slices[0])
		if err != nil {
			return gimbal, plain, err
		}
		gimbal.add(g)
		plain.add(p)
	}
	return gimbal, plain, w.removePlain(ctx, "plain-", objects)
}

// plainWorld makes n Services and slices that Gimbal has nothing to do with.
func (w *world) plainWorld(ctx context.Context, n int) ([]mirror.Objects, error) {
	objects, err := w.makePlain(ctx, "plain-", n)
	if err != nil {
		return nil, err
	}
	if err := w.writePlain(ctx, objects); err != nil {
		return nil, err
	}
	if _, err := w.seen.filled(ctx, 2*n, starting("plain-")); err != nil {
		return nil, err
	}
	return objects, w.settle(ctx)
}

func starting(prefix string) func(string) bool {
	return func(namespace string) bool { return strings.HasPrefix(namespace, prefix) }
}

func (w *world) measureChange(ctx context.Context, r *report) error {
	gimbal, plain, err := w.singles(ctx)
	if err != nil {
		return err
	}
	r.add(row{
		what: fmt.Sprintf("One change at rest, until seen centrally, from the upstream's answer (%d changes)", singles), figure: gimbal.answer.String(),
		bar: "p50 8 ms", plain: plain.answer.String() + " for its own write", met: gimbal.answer.at(50) <= 8*time.Millisecond,
	})
	r.add(row{what: "… from before the upstream write", figure: gimbal.before.String(), plain: plain.before.String()})
	return nil
}

// burst makes one change to each slice, 500 a second, and returns when each was seen and the last was answered.
func (w *world) burst(ctx context.Context, c kubernetes.Interface, slices []**discoveryv1.EndpointSlice) (l latencies, after time.Duration, err error) {
	all := make([]made, len(slices))
	group, groupCtx := errgroup.WithContext(ctx)
	start := time.Now()
	for i, slice := range slices {
		token := w.token()
		if err := pause(ctx, time.Until(start.Add(time.Duration(i)*spacing))); err != nil {
			return l, 0, err
		}
		group.Go(func() (err error) {
			all[i], err = change(groupCtx, c, slice, token)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return l, 0, err
	}
	l, err = w.latencies(ctx, all...)
	var answered, seen time.Time
	for i, m := range all {
		if m.answered.After(answered) {
			answered = m.answered
		}
		if s := m.answered.Add(l.answer[i]); s.After(seen) {
			seen = s
		}
	}
	return l, seen.Sub(answered), err
}

func (w *world) measureBurst(ctx context.Context, r *report) error {
	objects, err := w.plainWorld(ctx, bursts)
	if err != nil {
		return err
	}
	var upstream, central []**discoveryv1.EndpointSlice
	for i := range bursts {
		upstream = append(upstream, &w.apps[i].slice)
		central = append(central, &objects[i].Slices[0])
	}
	if w.pprof != "" {
		go w.profile("burst", "profile?seconds=3")
	}
	gimbal, after, err := w.burst(ctx, w.up, upstream)
	if err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	plain, plainAfter, err := w.burst(ctx, w.plain, central)
	if err != nil {
		return err
	}
	r.add(row{
		what:   fmt.Sprintf("%d changes at 500/s, the last seen centrally after the last was answered upstream", bursts),
		figure: fmt.Sprintf("%s (each: %s)", short(after), gimbal.answer), bar: "2 s",
		plain: fmt.Sprintf("%s (each: %s)", short(plainAfter), plain.answer), met: after <= 2*time.Second,
	})
	return w.removePlain(ctx, "plain-", objects)
}
