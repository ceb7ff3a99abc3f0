// Command lab runs whole Kubernetes clusters with Gimbal on one Linux machine,
// without Docker.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projectcontour/gimbal/lab/contain"
)

// exitCode is the exit code of a command that ran and failed of its own accord.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	if code, child := contain.Child(); child {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := newRoot().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	var code exitCode
	switch {
	case err != nil && interrupted:
		fmt.Fprintln(os.Stderr, "lab: interrupted")
		os.Exit(130)
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "Whole Kubernetes clusters with Gimbal on one Linux machine, without Docker",
		Long: `lab runs Gimbal's environment on one Linux machine: a central cluster and upstream
clusters, each a real control plane and a real node in a network namespace, and beside
them a real OpenStack.
It needs root for nodes, and no Docker.

The programs are built once, from pinned modules, into $GIMBAL_CACHE (default
gimbal in the user's cache directory). Each checkout has at most one lab; labs of
several checkouts run side by side. When a lab ends, however it ends, no process,
mount, interface, cgroup or file of it remains.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(newUp(), newInside(), newDown(), newStatus(), newKubeconfig(), newExec(), newLogs(), newMember(), newComponents())
	root.AddCommand(newActions()...)
	return root
}
