// Package kubernetes reads upstream clusters that are Kubernetes.
package kubernetes

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Options are what a Source needs.
type Options struct {
	// Config says how the upstream is reached; see RESTConfig.
	Config *rest.Config
	// Addressing is Pod where empty.
	Addressing v1alpha1.Addressing
	Selection  mirror.Selection
	// Limits are upstream.DefaultLimits where zero.
	Limits upstream.Limits
	// Logger is slog's default where nil.
	Logger *slog.Logger
	// ProbeInterval is the time from one probe to the next while all is well; 10 s where zero.
	ProbeInterval time.Duration
	// RequestTimeout is how long a probe may take; 8 s where zero. With ProbeInterval it
	// bounds the time until an upstream that hangs is reported.
	RequestTimeout time.Duration
	// StreamTimeout is how long a listing may go on without progress: until the next
	// page or, in a streaming list, as many objects; 30 s where zero.
	StreamTimeout time.Duration

	// maxPage is the most bytes of a page; upstream.MaxResponse where zero.
	maxPage int64
}

// What an upstream grants, by two roles: nodes are read for NodePort addressing alone.
//
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:roleName=gimbal-upstream-nodes,groups="",resources=nodes,verbs=get;list;watch

// Source keeps the inventory of a Kubernetes upstream by watching its Services,
// EndpointSlices and, with NodePort addressing, Nodes.
type Source struct {
	options   Options
	client    *client
	converter converter
	inventory *inventory
	resources []*resource
	wake      chan struct{} // the next probe is to come soon

	mu        sync.Mutex
	observer  upstream.Observer
	announced bool  // Complete has been called: from now on changes are Updates
	probeErr  error // why the last probe failed
}

var _ upstream.Source = (*Source)(nil)

// New returns a Source that has read nothing yet. It fails where the credentials can't be used.
func New(o Options) (*Source, error) {
	o.Addressing = cmp.Or(o.Addressing, v1alpha1.AddressingPod)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.ProbeInterval = cmp.Or(o.ProbeInterval, 10*time.Second)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 8*time.Second)
	o.StreamTimeout = cmp.Or(o.StreamTimeout, 30*time.Second)
	o.maxPage = cmp.Or(o.maxPage, upstream.MaxResponse)
	o.Limits = cmp.Or(o.Limits, upstream.DefaultLimits())
	c, err := newClient(o.Config)
	if err != nil {
		return nil, err
	}
	s := &Source{
		options:   o,
		client:    c,
		converter: converter{o.Addressing, o.Selection},
		inventory: newInventory(),
		wake:      make(chan struct{}, 1),
	}
	s.add(services, anyList(c.core.Services("").List), c.core.Services("").Watch)
	s.add(endpointSlices, anyList(c.discovery.EndpointSlices("").List), c.discovery.EndpointSlices("").Watch)
	if o.Addressing == v1alpha1.AddressingNodePort {
		s.add(nodes, anyList(c.core.Nodes().List), c.core.Nodes().Watch)
	}
	return s, nil
}

type lister func(context.Context, metav1.ListOptions) (runtime.Object, error)

// anyList makes the List method of a typed client one that returns any list.
func anyList[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) lister {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return list(ctx, o)
	}
}

func (s *Source) add(k kind, list lister, watch func(context.Context, metav1.ListOptions) (watch.Interface, error)) {
	s.resources = append(s.resources, &resource{kind: k, source: s, list: list, watch: watch, relist: make(chan struct{}, 1)})
}

// Run reads the upstream until ctx ends and returns ctx's error. It may be called once.
func (s *Source) Run(ctx context.Context, o upstream.Observer) error {
	s.observer = o
	defer s.client.transport.CloseIdleConnections()
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(debug{s.options.Logger.Handler()}))
	var wg sync.WaitGroup
	for _, r := range s.resources {
		wg.Go(func() { s.reflect(ctx, r) })
	}
	wg.Go(func() { s.probe(ctx) })
	wg.Wait()
	return ctx.Err()
}

func (s *Source) reflect(ctx context.Context, r *resource) {
	logger := klog.FromContext(ctx)
	reflector := cache.NewReflectorWithOptions(r, nil, store{s, r}, cache.ReflectorOptions{
		Name:            r.kind.String(),
		TypeDescription: r.kind.String(),
		Logger:          &logger,
		// An upstream that comes back is seen within five seconds: after one delay its
		// watch has lost its place, after another one it is listed.
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Cap: 2 * time.Second, Steps: 10, Factor: 2, Jitter: 0.2},
	})
	reflector.RunWithContext(ctx)
}

// debug makes client-go's lines debug ones: what matters of them is reported by other
// means. Its more verbose ones, which hold requests and answers, are left out.
type debug struct{ slog.Handler }

func (d debug) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug && d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d debug) Handle(ctx context.Context, r slog.Record) error {
	if !d.Enabled(ctx, r.Level) { // logr asks this of lines that aren't errors only
		return nil
	}
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d debug) WithAttrs(a []slog.Attr) slog.Handler { return debug{d.Handler.WithAttrs(a)} }

func (d debug) WithGroup(name string) slog.Handler { return debug{d.Handler.WithGroup(name)} }

// Service implements upstream.Source.
func (s *Source) Service(key mirror.Key) (*mirror.Service, bool) {
	return s.inventory.service(key, s.options.Addressing)
}

// Keys implements upstream.Source.
func (s *Source) Keys() []mirror.Key { return s.inventory.serviceKeys() }

// Identity implements upstream.Source: the UID of the Service default/kubernetes.
func (s *Source) Identity() string { return s.inventory.identity() }
