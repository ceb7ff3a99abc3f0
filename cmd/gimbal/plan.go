package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/preview"
)

// planFlags are what gimbal plan is told.
type planFlags struct {
	central      connection
	policy       policyFlags
	output, file string
	timeout      time.Duration
}

func newPlanCommand() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "plan [UPSTREAM...]",
		Short: "Show what would be created, changed, deleted, held or refused, and why",
		Long: `Reads upstreams and the central cluster once and shows what an agent would do. It
writes nothing. Without arguments it does so for every UpstreamCluster of the
namespace; with --filename for one that needn't be applied yet.

Give it the policy flags that gimbal discover runs with.`,
		RunE: flags.run,
	}
	f := cmd.Flags()
	flags.central.addFlags(f)
	flags.policy.addFlags(f)
	f.StringVarP(&flags.output, "output", "o", "table", "`FORMAT`: table, json or yaml")
	f.StringVarP(&flags.file, "filename", "f", "", "`FILE` with one UpstreamCluster to plan for, instead of those that are applied; - is standard input")
	f.DurationVar(&flags.timeout, "timeout", 30*time.Second, "how long listing the UpstreamClusters, and then each upstream, may take")
	return cmd
}

func (p *planFlags) run(cmd *cobra.Command, names []string) error {
	policy, err := p.policy.policy()
	if err != nil {
		return err
	}
	var manifest []byte
	if p.file != "" {
		if len(names) > 0 {
			return errors.New("give either --filename or names of upstreams")
		}
		if manifest, err = readFile(cmd, p.file); err != nil {
			return err
		}
	}
	logger := quiet()
	var upstreams []v1alpha1.UpstreamCluster
	if err := within(cmd.Context(), p.timeout, func(ctx context.Context) (err error) {
		upstreams, err = p.upstreams(ctx, cmd, names, manifest)
		return err
	}); err != nil {
		return err
	}
	previews := []*preview.Preview{}
	var errs []error
	for i := range upstreams {
		if cmd.Context().Err() != nil {
			break
		}
		if err := within(cmd.Context(), p.timeout, func(ctx context.Context) error {
			one, err := p.preview(ctx, &upstreams[i], policy, logger)
			if err == nil {
				previews = append(previews, one)
			}
			return err
		}); err != nil {
			errs = append(errs, fmt.Errorf("upstream %s: %w", upstreams[i].Name, err))
		}
	}
	return errors.Join(append(errs, print(cmd.OutOrStdout(), p.output, previews, planTable))...)
}

// preview returns the preview of one upstream.
func (p *planFlags) preview(ctx context.Context, uc *v1alpha1.UpstreamCluster, policy accept.Policy, logger *slog.Logger) (*preview.Preview, error) {
	config, err := p.central.config(ctx)
	if err != nil {
		return nil, err
	}
	reader, err := newClient(ctx, &p.central)
	if err != nil {
		return nil, err
	}
	direct, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return preview.New(ctx, preview.Options{Reader: reader, Client: direct, Upstream: uc, Policy: policy, Logger: logger})
}

// upstreams returns the UpstreamClusters that were asked for: the one of the manifest, if there is one.
func (p *planFlags) upstreams(ctx context.Context, cmd *cobra.Command, names []string, manifest []byte) ([]v1alpha1.UpstreamCluster, error) {
	if p.file == "" {
		return getUpstreams(ctx, cmd, &p.central, names)
	}
	uc, err := asApplied(ctx, cmd, &p.central, manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.file, err)
	}
	return []v1alpha1.UpstreamCluster{*uc}, nil
}

// asApplied returns the UpstreamCluster of a manifest as the central API server would
// have it, validated and with its defaults, or as it is where the user may not apply
// it. Nothing is written.
func asApplied(ctx context.Context, cmd *cobra.Command, central *connection, manifest []byte) (*v1alpha1.UpstreamCluster, error) {
	var uc v1alpha1.UpstreamCluster
	if err := yaml.UnmarshalStrict(manifest, &uc); err != nil {
		return nil, fmt.Errorf("not an UpstreamCluster: %w", err)
	}
	uc.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("UpstreamCluster"))
	if uc.Namespace == "" {
		uc.Namespace = central.namespace
	}
	c, err := newClient(ctx, central)
	if err != nil {
		return nil, err
	}
	// An applied one keeps its age, which decides between names that can't be told apart.
	present := v1alpha1.UpstreamCluster{}
	applied := uc.DeepCopy()
	err = c.Get(ctx, client.ObjectKeyFromObject(&uc), &present)
	switch {
	case apierrors.IsNotFound(err):
		err = c.Create(ctx, applied, client.DryRunAll)
	case err == nil:
		applied.ResourceVersion = present.ResourceVersion
		err = c.Update(ctx, applied, client.DryRunAll)
	}
	if apierrors.IsForbidden(err) {
		cmd.PrintErrln("Taken as it is, unchecked and without defaults:", err)
		return &uc, nil
	}
	return applied, err
}

func readFile(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(file)
}

// getUpstreams returns the UpstreamClusters of these names, or all of the namespace.
func getUpstreams(ctx context.Context, cmd *cobra.Command, central *connection, names []string) ([]v1alpha1.UpstreamCluster, error) {
	c, err := newClient(ctx, central)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		var list v1alpha1.UpstreamClusterList
		if err := c.List(ctx, &list, client.InNamespace(central.namespace)); err != nil {
			return nil, fmt.Errorf("listing UpstreamClusters in %s: %w", central.namespace, err)
		}
		if len(list.Items) == 0 {
			noUpstreams(cmd, central.namespace)
		}
		return list.Items, nil
	}
	upstreams := make([]v1alpha1.UpstreamCluster, len(names))
	for i, name := range names {
		if err := c.Get(ctx, client.ObjectKey{Namespace: central.namespace, Name: name}, &upstreams[i]); err != nil {
			return nil, fmt.Errorf("reading UpstreamCluster %s/%s: %w", central.namespace, name, err)
		}
	}
	return upstreams, nil
}

func newClient(ctx context.Context, central *connection) (client.Client, error) {
	config, err := central.config(ctx)
	if err != nil {
		return nil, err
	}
	scheme, err := discovery.Scheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme})
}

// print writes v in a format; table writes it for people.
func print[T any](w io.Writer, format string, v T, table func(io.Writer, T) error) error {
	switch format {
	case "table":
		return table(w, v)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return fmt.Errorf("--output %q: want table, json or yaml", format)
}

func planTable(out io.Writer, previews []*preview.Preview) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for i, p := range previews {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if p.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", p.Upstream, p.Note)
		}
		count := map[preview.Action]int{}
		if len(p.Steps) > 0 {
			fmt.Fprintln(w, "UPSTREAM\tACTION\tNAMESPACE\tSERVICE\tCENTRAL\tREASON\tDETAIL")
		}
		for _, s := range p.Steps {
			count[s.Action]++
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Upstream, s.Action, s.Namespace, s.Service, s.Central, s.Reason, s.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s: %d to create, %d to change, %d to delete, %d held, %d waiting, %d refused, %d unchanged\n", p.Upstream,
			count[preview.Create], count[preview.Change], count[preview.Delete],
			count[preview.Hold], count[preview.Wait], count[preview.Refuse], p.Unchanged); err != nil {
			return err
		}
	}
	return nil
}
