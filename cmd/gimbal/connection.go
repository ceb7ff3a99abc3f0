package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/bound"
)

// connection says how the central cluster is reached.
type connection struct {
	kubeconfig, context, namespace string
}

func (c *connection) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `FILE` of the central cluster; without it, the KUBECONFIG variable, the user's own file, or the pod's service account")
	f.StringVar(&c.context, "context", "", "`CONTEXT` of the kubeconfig to use instead of its current one")
	f.StringVarP(&c.namespace, "namespace", "n", "gimbal-discovery", "`NAMESPACE` of the UpstreamClusters and their Secrets")
}

// config returns the central cluster's client configuration. What its clients do ends with ctx.
func (c *connection) config(ctx context.Context) (*rest.Config, error) {
	config, err := c.unbound()
	if err != nil {
		return nil, err
	}
	return bound.To(ctx, config), nil
}

// unbound returns a configuration whose clients may outlive the command's context: what is
// begun can be ended in an orderly way.
func (c *connection) unbound() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no way to the central cluster: %w; name its kubeconfig with --kubeconfig", err)
	}
	config.UserAgent = "gimbal/" + buildVersion()
	return config, nil
}

// within runs f for no longer than limit, and says so if that was why it failed.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %w", ctx.Err())
	case limited.Err() != nil:
		return fmt.Errorf("not done within --timeout %s: %w", limit, err)
	}
	return err
}

// logging says how much is logged, and how.
type logging struct{ level, format string }

func (l *logging) addFlags(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	f.StringVar(&l.format, "log-format", "json", "`FORMAT` of the log: json or text")
}

// logger returns the logger, and makes the libraries log by it too.
func (l *logging) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", l.level)
	}
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch l.format {
	case "json":
		h = slog.NewJSONHandler(w, options)
	case "text":
		h = slog.NewTextHandler(w, options)
	default:
		return nil, fmt.Errorf("--log-format %q: want json or text", l.format)
	}
	ctrl.SetLogger(logr.FromSlogHandler(h))
	klog.SetSlogLogger(slog.New(h))
	return slog.New(h), nil
}

// quiet returns a logger for commands that speak to a person: it logs nothing, and neither do the libraries.
func quiet() *slog.Logger {
	l := slog.New(slog.DiscardHandler)
	ctrl.SetLogger(logr.Discard())
	klog.SetSlogLogger(l)
	return l
}

// noUpstreams is said where a namespace has no UpstreamCluster.
func noUpstreams(cmd *cobra.Command, namespace string) {
	cmd.PrintErrf("No UpstreamCluster in namespace %s. Add one: kubectl apply -n %s -f FILE (%s, see kubectl explain uc).\n",
		namespace, namespace, v1alpha1.GroupVersion)
}

// identity returns this process's name in Leases, unless one was given.
func identity(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("no host name to identify this replica by: %w; give one with --identity", err)
	}
	return fmt.Sprintf("%s_%d", strings.ToLower(host), os.Getpid()), nil
}
