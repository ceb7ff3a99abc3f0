package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/preview"
)

func newPlanCommand() *cobra.Command {
	var central connection
	var policy policyFlags
	var output, file string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "plan [UPSTREAM...]",
		Short: "Show what would be created, changed, deleted, held or refused, and why",
		Long: `Reads upstreams and the central cluster once and shows what an agent would do. It
writes nothing. Without arguments it does so for every UpstreamCluster of the
namespace; with --filename for one that needn't be applied yet.

Give it the policy flags that gimbal discover runs with.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			p, err := policy.policy()
			if err != nil {
				return err
			}
			upstreams, err := plannedUpstreams(cmd, &central, file, names)
			if err != nil {
				return err
			}
			config, err := central.config()
			if err != nil {
				return err
			}
			logger := quiet()
			reader, err := newClient(&central)
			if err != nil {
				return err
			}
			direct, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			previews := []*preview.Preview{}
			var errs []error
			for i := range upstreams {
				ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
				one, err := preview.New(ctx, preview.Options{
					Reader: reader, Client: direct, Upstream: &upstreams[i], Policy: p, Logger: logger,
				})
				cancel()
				if err != nil {
					errs = append(errs, fmt.Errorf("upstream %s: %w", upstreams[i].Name, err))
					continue
				}
				previews = append(previews, one)
			}
			return errors.Join(append(errs, print(cmd.OutOrStdout(), output, previews, planTable))...)
		},
	}
	f := cmd.Flags()
	central.addFlags(f)
	policy.addFlags(f)
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table, json or yaml")
	f.StringVarP(&file, "filename", "f", "", "`FILE` with one UpstreamCluster to plan for, instead of those that are applied; - is standard input")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "how long one upstream may take")
	return cmd
}

// plannedUpstreams returns the UpstreamClusters that were asked for.
func plannedUpstreams(cmd *cobra.Command, central *connection, file string, names []string) ([]v1alpha1.UpstreamCluster, error) {
	if file == "" {
		return getUpstreams(cmd, central, names)
	}
	if len(names) > 0 {
		return nil, errors.New("give either --filename or names of upstreams")
	}
	data, err := readFile(cmd, file)
	if err != nil {
		return nil, err
	}
	uc, err := asApplied(cmd, central, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return []v1alpha1.UpstreamCluster{*uc}, nil
}

// asApplied returns the UpstreamCluster of a manifest as the central API server would
// have it, validated and with its defaults, or as it is where the user may not apply
// it. Nothing is written.
func asApplied(cmd *cobra.Command, central *connection, manifest []byte) (*v1alpha1.UpstreamCluster, error) {
	var uc v1alpha1.UpstreamCluster
	if err := yaml.UnmarshalStrict(manifest, &uc); err != nil {
		return nil, fmt.Errorf("not an UpstreamCluster: %w", err)
	}
	uc.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("UpstreamCluster"))
	if uc.Namespace == "" {
		uc.Namespace = central.namespace
	}
	c, err := newClient(central)
	if err != nil {
		return nil, err
	}
	// An applied one keeps its age, which decides between names that can't be told apart.
	present := v1alpha1.UpstreamCluster{}
	applied := uc.DeepCopy()
	err = c.Get(cmd.Context(), client.ObjectKeyFromObject(&uc), &present)
	switch {
	case apierrors.IsNotFound(err):
		err = c.Create(cmd.Context(), applied, client.DryRunAll)
	case err == nil:
		applied.ResourceVersion = present.ResourceVersion
		err = c.Update(cmd.Context(), applied, client.DryRunAll)
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
func getUpstreams(cmd *cobra.Command, central *connection, names []string) ([]v1alpha1.UpstreamCluster, error) {
	c, err := newClient(central)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		var list v1alpha1.UpstreamClusterList
		if err := c.List(cmd.Context(), &list, client.InNamespace(central.namespace)); err != nil {
			return nil, fmt.Errorf("listing UpstreamClusters in %s: %w", central.namespace, err)
		}
		if len(list.Items) == 0 {
			noUpstreams(cmd, central.namespace)
		}
		return list.Items, nil
	}
	upstreams := make([]v1alpha1.UpstreamCluster, len(names))
	for i, name := range names {
		if err := c.Get(cmd.Context(), client.ObjectKey{Namespace: central.namespace, Name: name}, &upstreams[i]); err != nil {
			return nil, fmt.Errorf("reading UpstreamCluster %s/%s: %w", central.namespace, name, err)
		}
	}
	return upstreams, nil
}

func newClient(central *connection) (client.Client, error) {
	config, err := central.config()
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
