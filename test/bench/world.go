package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/controlplane"
	"github.com/projectcontour/gimbal/lab/process"
)

const (
	// backend is the upstream's name.
	backend = "bench"
	// system is Gimbal's namespace.
	system = "gimbal-discovery"
	// workers is how many objects are written at once, by Gimbal's default and by the plain client.
	workers = 16
)

// world is a central and an upstream control plane, and clients of both.
type world struct {
	options
	cancel func() // ends what watches

	size  size
	cache *component.Cache
	dir   string
	root  string

	central, upstream *controlplane.ControlPlane
	admin             client.Client         // of the central cluster
	up                *kubernetes.Clientset // administrator of the upstream
	plain             *kubernetes.Clientset // of the central cluster, with Gimbal's own rights
	kubeconfig        string                // Gimbal's, of the central cluster

	apps    []*app
	seen    *observer
	process *process.Process
	changes int
}

// newWorld starts both control planes, gives Gimbal what it needs, and fills the upstream.
func newWorld(ctx context.Context, o options, s size) (*world, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &world{options: o, size: s, cancel: cancel}
	if err := w.start(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context) (err error) {
	if err = w.startCentral(ctx); err != nil {
		return err
	}
	if w.upstream, err = w.controlPlane(ctx, "upstream"); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{w.grantUpstream, w.connect, w.fill} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startCentral starts the central control plane, with what Gimbal needs there.
func (w *world) startCentral(ctx context.Context) (err error) {
	if w.cache, err = component.Open(os.Stderr); err != nil {
		return err
	}
	if w.root, err = checkout.Root(); err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp(os.Getenv(containedEnv), "world-"); err != nil {
		return err
	}
	if w.central, err = w.controlPlane(ctx, "central"); err != nil {
		return err
	}
	if err := errors.Join(w.install(ctx), w.grant(ctx)); err != nil {
		return err
	}
	w.seen, err = observe(ctx, w.central)
	return err
}

func (w *world) controlPlane(ctx context.Context, name string) (*controlplane.ControlPlane, error) {
	return controlplane.Start(ctx, controlplane.Options{Name: name, Dir: filepath.Join(w.dir, name), Components: w.cache})
}

// close ends every process of the world.
func (w *world) close() {
	w.cancel()
	if w.process != nil {
		w.process.Kill()
	}
	for _, c := range []*controlplane.ControlPlane{w.central, w.upstream} {
		if c == nil {
			continue
		}
		if err := c.Stop(); err != nil {
			say("%v", err)
		}
	}
	os.RemoveAll(w.dir)
}

// install applies the manifests that a user would, and has a control plane without nodes leave out the pods.
func (w *world) install(ctx context.Context) error {
	return errors.Join(
		w.kubectl(ctx, w.central, "apply", "-k", filepath.Join(w.root, "deploy/crds")),
		w.kubectl(ctx, w.central, "apply", "-k", filepath.Join(w.root, "deploy/discovery")),
		w.kubectl(ctx, w.central, "wait", "--for=condition=Established", "crd/upstreamclusters."+v1alpha1.Group),
	)
}

func (w *world) kubectl(ctx context.Context, c *controlplane.ControlPlane, args ...string) error {
	path, err := w.cache.Path(ctx, component.Kubectl)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %v on %s: %w: %s", args, c.Name(), err, bytes.TrimSpace(out))
	}
	return nil
}

// grant hands out the kubeconfig of Gimbal's ServiceAccount.
func (w *world) grant(ctx context.Context) error {
	own, err := w.central.ServiceAccountKubeconfig(ctx, system, "gimbal-discovery", 0)
	if err != nil {
		return err
	}
	w.kubeconfig = filepath.Join(w.dir, "gimbal.kubeconfig")
	if err := os.WriteFile(w.kubeconfig, own, 0o600); err != nil {
		return err
	}
	scheme, err := discovery.Scheme()
	if err != nil {
		return err
	}
	config, err := restConfig(w.central.Kubeconfig())
	if err != nil {
		return err
	}
	w.admin, err = client.New(config, client.Options{Scheme: scheme})
	return err
}

// grantUpstream hands out the kubeconfig of the upstream's ServiceAccount.
func (w *world) grantUpstream(ctx context.Context) error {
	if err := w.kubectl(ctx, w.upstream, "apply", "-k", filepath.Join(w.root, "deploy/upstream")); err != nil {
		return err
	}
	theirs, err := w.upstream.ServiceAccountKubeconfig(ctx, "gimbal-upstream", "gimbal-discovery", 0)
	if err != nil {
		return err
	}
	return w.admin.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: backend},
		Data:       map[string][]byte{"kubeconfig": theirs},
	})
}

// connect makes the clients that write what is measured.
func (w *world) connect(context.Context) error {
	up, err := restConfig(w.upstream.Kubeconfig())
	if err != nil {
		return err
	}
	plain, err := restConfig(w.kubeconfig)
	if err != nil {
		return err
	}
	if w.up, err = kubernetes.NewForConfig(protobuf(up)); err != nil {
		return err
	}
	w.plain, err = kubernetes.NewForConfig(protobuf(plain))
	return err
}

func restConfig(file string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// protobuf is the encoding that Gimbal uses too.
func protobuf(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}

// say tells on standard error what goes on.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}
