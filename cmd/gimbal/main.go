// Command gimbal discovers the Services of upstream clusters for a central
// load-balancing tier.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker; a build without it says what the Go toolchain knows.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends it in an orderly way, the second one at once.
	context.AfterFunc(ctx, stop)
	if err := newRootCommand(filepath.Base(os.Args[0])).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// newRootCommand returns the whole command line. Under the name kubectl-gimbal it speaks of itself as kubectl's plugin.
func newRootCommand(name string) *cobra.Command {
	root := &cobra.Command{
		Use:   "gimbal",
		Short: "One layer-7 load-balancing tier in front of many clusters",
		Long: `Gimbal keeps Service and EndpointSlice objects for the applications of upstream
clusters in the central cluster, where Contour and Envoy route to them.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if plugin, ok := strings.CutPrefix(name, "kubectl-"); ok {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl " + plugin}
	}
	root.AddCommand(newDiscoverCommand(), newPlanCommand(), newStatusCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "gimbal", buildVersion())
			return err
		},
	}
}

// buildVersion returns the release, or what the Go toolchain recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}
