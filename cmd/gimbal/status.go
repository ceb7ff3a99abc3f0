package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/lease"
)

// upstreamStatus is one upstream's status with what its Lease adds.
type upstreamStatus struct {
	Name string `json:"name"`
	// ServedBy is the replica that holds the upstream's Lease; empty if none does.
	ServedBy string `json:"servedBy,omitempty"`
	// View is the age of the last complete view: "live" while it is kept up to date.
	View string `json:"view"`

	v1alpha1.UpstreamClusterStatus `json:",inline"`
}

func newStatusCommand() *cobra.Command {
	var central connection
	var output string
	var refusals bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status [UPSTREAM...]",
		Short: "Show upstreams, the age of their last complete view, counts and refusals",
		RunE: func(cmd *cobra.Command, names []string) error {
			var rows []upstreamStatus
			err := within(cmd.Context(), timeout, func(ctx context.Context) (err error) {
				rows, err = statuses(ctx, cmd, &central, names)
				return err
			})
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), output, rows, func(w io.Writer, rows []upstreamStatus) error {
				return statusTable(w, rows, refusals || len(names) > 0)
			})
		},
	}
	f := cmd.Flags()
	central.addFlags(f)
	f.StringVarP(&output, "output", "o", "table", "`FORMAT`: table, json or yaml")
	f.BoolVar(&refusals, "refusals", false, "list refusals and the conditions' messages too, as is done for upstreams given by name")
	f.DurationVar(&timeout, "timeout", 10*time.Second, "how long the central cluster may take to answer")
	return cmd
}

// statuses returns the statuses of the upstreams of these names, or of all.
func statuses(ctx context.Context, cmd *cobra.Command, central *connection, names []string) ([]upstreamStatus, error) {
	upstreams, err := getUpstreams(ctx, cmd, central, names)
	if err != nil {
		return nil, err
	}
	config, err := central.config(ctx)
	if err != nil {
		return nil, err
	}
	direct, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	rows := make([]upstreamStatus, 0, len(upstreams))
	for i := range upstreams {
		row, err := statusOf(ctx, direct, &upstreams[i], time.Now())
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// statusOf returns one upstream's status. The view counts as live only while a
// replica holds the Lease: without one nobody looks.
func statusOf(ctx context.Context, c kubernetes.Interface, uc *v1alpha1.UpstreamCluster, now time.Time) (upstreamStatus, error) {
	row := upstreamStatus{Name: uc.Name, UpstreamClusterStatus: uc.Status, View: "never"}
	holder, err := lease.Holder(ctx, c, uc.Namespace, uc.Name, now)
	if err != nil {
		return row, err
	}
	row.ServedBy = holder
	last := uc.Status.LastCompleteSync
	switch {
	case meta.IsStatusConditionTrue(uc.Status.Conditions, v1alpha1.ConditionReachable) && holder != "":
		row.View = "live"
	case last != nil:
		row.View = duration.HumanDuration(now.Sub(last.Time)) + " ago"
	}
	return row, nil
}

func statusTable(out io.Writer, rows []upstreamStatus, details bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(rows) > 0 {
		fmt.Fprintln(w, "UPSTREAM\tACCEPTED\tREACHABLE\tSYNCED\tREASON\tVIEW\tSERVICES\tENDPOINTS\tWAITING\tREFUSED\tHELD\tSERVED BY")
	}
	for _, r := range rows {
		servedBy := r.ServedBy
		if servedBy == "" {
			servedBy = "nobody"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Name,
			value(r, v1alpha1.ConditionAccepted), value(r, v1alpha1.ConditionReachable), value(r, v1alpha1.ConditionSynced), r.Reason,
			r.View, r.Services, r.Endpoints, r.Waiting, r.Refused, r.HeldDeletions+r.HeldEndpoints, servedBy)
	}
	if err := w.Flush(); err != nil || !details {
		return err
	}
	for _, r := range rows {
		fmt.Fprintf(w, "\n%s:\n", r.Name)
		for _, c := range r.Conditions {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", c.Type, c.Status, c.Reason, c.Message)
		}
		for _, x := range r.Refusals {
			fmt.Fprintf(w, "  refused\t%s/%s\t%s\t%s\n", x.Namespace, x.Service, x.Reason, x.Message)
		}
		if more := int(r.Refused) - len(r.Refusals); more > 0 {
			fmt.Fprintf(w, "  and %d more refusals: gimbal plan %s lists all\n", more, r.Name)
		}
	}
	return w.Flush()
}

func value(r upstreamStatus, condition string) metav1.ConditionStatus {
	if c := meta.FindStatusCondition(r.Conditions, condition); c != nil {
		return c.Status
	}
	return metav1.ConditionUnknown
}
