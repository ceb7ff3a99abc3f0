package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/process"
)

const (
	entrance    = "127.0.0.1:8888" // Envoy's
	backendPort = 8080
	routed      = "routed" // host of what Gimbal mirrors
	direct      = "direct" // host of what the plain client writes
)

// measureEnvoy puts Contour and Envoy on top and measures until a request is answered by a new endpoint.
func (w *world) measureEnvoy(ctx context.Context, r *report) error {
	stop, err := serveBackends()
	if err != nil {
		return err
	}
	defer stop()
	objects, err := w.plainWorld(ctx, 1)
	if err != nil {
		return err
	}
	plain := objects[0]
	tier, err := w.startTier(ctx, plain)
	if err != nil {
		return err
	}
	defer tier.stop()
	gimbalSlice, plainSlice := &w.apps[0].slice, &plain.Slices[0]
	var gimbal, own times
	for i := range singles {
		to := backends[i%2]
		for _, one := range []struct {
			client kubernetes.Interface
			slice  **discoveryv1.EndpointSlice
			host   string
			times  *times
		}{{w.up, gimbalSlice, routed, &gimbal}, {w.plain, plainSlice, direct, &own}} {
			took, err := tier.change(ctx, one.client, one.slice, one.host, to)
			if err != nil {
				return fmt.Errorf("%s: %w", one.host, err)
			}
			if i >= 2 { // the first ones wait for the routes
				*one.times = append(*one.times, took)
			}
		}
	}
	r.add(row{
		what:   fmt.Sprintf("One change at rest, until a request through Envoy is answered by the new endpoint, from the upstream's answer (%d changes)", len(gimbal)),
		figure: gimbal.String(), bar: "p50 30 ms", plain: own.String() + " for its own central write", met: gimbal.at(50) <= 30*time.Millisecond,
	})
	return w.removePlain(ctx, "plain-", objects)
}

// serveBackends answers at each backend's address with that address.
func serveBackends() (stop func(), err error) {
	var servers []*http.Server
	stop = func() {
		for _, s := range servers {
			s.Close()
		}
	}
	for _, address := range backends {
		l, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(backendPort)))
		if err != nil {
			stop()
			return nil, err
		}
		s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, address)
		})}
		servers = append(servers, s)
		go func() { _ = s.Serve(l) }()
	}
	return stop, nil
}

// tier is Contour and Envoy, and a client of Envoy.
type tier struct {
	processes []*process.Process
	client    *http.Client
}

func (t *tier) stop() {
	for _, p := range t.processes {
		p.Kill()
	}
	t.client.CloseIdleConnections()
}

func (w *world) startTier(ctx context.Context, plain mirror.Objects) (*tier, error) {
	source, err := w.cache.Source(ctx, component.Contour)
	if err != nil {
		return nil, err
	}
	if err := w.kubectl(ctx, w.central, "create", "-f", filepath.Join(source, "examples/contour/01-crds.yaml")); err != nil {
		return nil, err
	}
	if err := w.kubectl(ctx, w.central, "wait", "--for=condition=Established", "crd", "--all"); err != nil {
		return nil, err
	}
	mirrored := w.apps[0].service
	if err := w.route(ctx, routed, mirrored.Namespace, mirror.ServiceName(backend, mirror.Key{Namespace: mirrored.Namespace, Name: mirrored.Name})); err != nil {
		return nil, err
	}
	if err := w.route(ctx, direct, plain.Service.Namespace, plain.Service.Name); err != nil {
		return nil, err
	}
	t := &tier{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 5 * time.Second}}
	if err := w.startPrograms(ctx, t); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

func (w *world) startPrograms(ctx context.Context, t *tier) error {
	contour, err := w.cache.Path(ctx, component.Contour)
	if err != nil {
		return err
	}
	envoy, err := w.cache.Path(ctx, component.Envoy)
	if err != nil {
		return err
	}
	bootstrap := filepath.Join(w.dir, "envoy.json")
	cmd := exec.CommandContext(ctx, contour, "bootstrap", bootstrap, "--xds-address", "127.0.0.1", "--xds-port", "8001",
		"--admin-address", filepath.Join(w.dir, "envoy-admin.sock"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("contour bootstrap: %w: %s", err, out)
	}
	for _, spec := range []process.Spec{
		{Name: "contour", Path: contour, Args: []string{
			"serve", "--kubeconfig", w.central.Kubeconfig(), "--insecure", "--disable-leader-election",
			"--xds-address", "127.0.0.1", "--xds-port", "8001", "--http-address", "127.0.0.1", "--http-port", "8000",
			"--health-address", "127.0.0.1", "--health-port", "8000", "--stats-address", "127.0.0.1", "--stats-port", "8002",
			"--envoy-service-http-address", "127.0.0.1", "--envoy-service-http-port", "8888",
			"--envoy-service-https-address", "127.0.0.1", "--envoy-service-https-port", "8443",
		}},
		{Name: "envoy", Path: envoy, Args: []string{"--config-path", bootstrap, "--service-cluster", "bench", "--service-node", "bench", "--concurrency", "1", "--base-id-path", filepath.Join(w.dir, "envoy-base-id"), "--use-dynamic-base-id", "--log-level", "warn"}},
	} {
		spec.Log = filepath.Join(w.dir, spec.Name+".log")
		p, err := process.Start(spec)
		if err != nil {
			return err
		}
		t.processes = append(t.processes, p)
	}
	return nil
}

// route makes an Ingress.
func (w *world) route(ctx context.Context, host, namespace, service string) error {
	return w.admin.Create(ctx, &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: host},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: new(networkingv1.PathTypePrefix),
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: service, Port: networkingv1.ServiceBackendPort{Number: 80},
				}},
			}}}},
		}}},
	})
}

// change makes a backend the slice's only endpoint and returns how long after the API
// server's answer Envoy passes a request to it.
func (t *tier) change(ctx context.Context, c kubernetes.Interface, slice **discoveryv1.EndpointSlice, host, to string) (time.Duration, error) {
	next := (*slice).DeepCopy()
	next.Endpoints = next.Endpoints[:1]
	next.Endpoints[0].Addresses = []string{to}
	next.Ports[0].Port, next.Ports[0].Protocol = new(int32(backendPort)), new(corev1.ProtocolTCP)
	got, err := c.DiscoveryV1().EndpointSlices(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return 0, err
	}
	*slice = got
	answered := time.Now()
	for {
		by, err := t.ask(ctx, host)
		if err == nil && by == to {
			break
		}
		if time.Since(answered) > time.Minute {
			for _, p := range t.processes {
				err = fmt.Errorf("%w; %w", err, failure(p))
			}
			return 0, fmt.Errorf("no answer by %s: %q, %w", to, by, err)
		}
		if err := pause(ctx, 200*time.Microsecond); err != nil {
			return 0, err
		}
	}
	return time.Since(answered), pause(ctx, atRest)
}

func failure(p *process.Process) error {
	if err := p.Failure(); err != nil {
		return err
	}
	return fmt.Errorf("%s runs", p.Name())
}

// ask returns the address of the backend that answers.
func (t *tier) ask(ctx context.Context, host string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+entrance+"/", nil)
	if err != nil {
		return "", err
	}
	request.Host = host
	response, err := t.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, 100))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, b)
	}
	return string(b), nil
}
