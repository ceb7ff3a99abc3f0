package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/projectcontour/gimbal/lab/controlplane"
)

// tokens are the addresses by which changes are told apart: each is used once.
const tokens = "10.200."

// observer is a watch on the central cluster that notes when it sees what.
type observer struct {
	mu      sync.Mutex
	objects map[string]map[types.NamespacedName]bool // by namespace; Services and slices have different names
	last    map[string]time.Time                     // the last object that was added, by namespace
	tokens  map[string]time.Time
	failed  error
}

func observe(ctx context.Context, c *controlplane.ControlPlane) (*observer, error) {
	config, err := restConfig(c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(protobuf(config))
	if err != nil {
		return nil, err
	}
	o := &observer{objects: map[string]map[types.NamespacedName]bool{}, last: map[string]time.Time{}, tokens: map[string]time.Time{}}
	services, slices := client.CoreV1().Services(""), client.DiscoveryV1().EndpointSlices("")
	none, err := services.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	for _, follow := range []watchFunc{services.Watch, slices.Watch} {
		// The API server ends a watch that falls behind on a busy machine; another goes on where it ended.
		w, err := watchtools.NewRetryWatcherWithContext(ctx, none.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: follow})
		if err != nil {
			return nil, err
		}
		go o.follow(w)
	}
	return o, nil
}

type watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)

func (o *observer) follow(w watch.Interface) {
	for e := range w.ResultChan() {
		o.take(e, time.Now())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = fmt.Errorf("the watch that measures has ended")
}

func (o *observer) take(e watch.Event, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch object := e.Object.(type) {
	case *corev1.Service:
		o.note(e.Type, object.Namespace, "service/"+object.Name, now)
	case *discoveryv1.EndpointSlice:
		o.note(e.Type, object.Namespace, object.Name, now)
		for _, endpoint := range object.Endpoints {
			if token := endpoint.Addresses[0]; strings.HasPrefix(token, tokens) && o.tokens[token].IsZero() {
				o.tokens[token] = now
			}
		}
	case *metav1.Status:
		o.failed = fmt.Errorf("the watch that measures got %v", e)
	}
}

func (o *observer) note(kind watch.EventType, namespace, name string, now time.Time) {
	if o.objects[namespace] == nil {
		o.objects[namespace] = map[types.NamespacedName]bool{}
	}
	key := types.NamespacedName{Namespace: namespace, Name: name}
	switch kind {
	case watch.Added:
		o.objects[namespace][key] = true
		o.last[namespace] = now
	case watch.Deleted:
		delete(o.objects[namespace], key)
	}
}

// count returns how many objects there are in the namespaces that are chosen. It is for await.
func (o *observer) count(chosen func(namespace string) bool) int {
	n := 0
	for namespace, objects := range o.objects {
		if chosen(namespace) {
			n += len(objects)
		}
	}
	return n
}

// filled waits until there are n objects in the chosen namespaces, and returns when the last was seen.
func (o *observer) filled(ctx context.Context, n int, chosen func(namespace string) bool) (time.Time, error) {
	err := o.await(ctx, func() bool { return o.count(chosen) >= n })
	o.mu.Lock()
	defer o.mu.Unlock()
	var last time.Time
	for namespace, t := range o.last {
		if chosen(namespace) && t.After(last) {
			last = t
		}
	}
	return last, err
}

// token waits for a change and returns when it was seen.
func (o *observer) token(ctx context.Context, token string) (seen time.Time, err error) {
	err = o.await(ctx, func() bool {
		seen = o.tokens[token]
		return !seen.IsZero()
	})
	return seen, err
}

// await waits until what is asked for is there. It is called often, with the lock held;
// what is measured are the times of the events.
func (o *observer) await(ctx context.Context, there func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		o.mu.Lock()
		ok, err := there(), o.failed
		o.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the central cluster: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
