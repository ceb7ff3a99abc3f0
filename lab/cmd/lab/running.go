package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/cluster"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/contain"
	"github.com/projectcontour/gimbal/lab/control"
	"github.com/projectcontour/gimbal/lab/environment"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/lab/process"
	"github.com/projectcontour/gimbal/lab/state"
)

func newDown() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End this checkout's lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := state.Load()
			if err != nil {
				return err
			}
			if s.Inside {
				return errors.New("this command runs in the lab; the lab ends when it does")
			}
			if err := syscall.Kill(s.Process, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end the lab, process %d: %w", s.Process, err)
			}
			return process.Await(cmd.Context(), nil, func(context.Context) error {
				running, err := contain.Running(checkout.ID(s.Checkout))
				if err == nil && running {
					err = errors.New("the lab is still ending")
				}
				return err
			})
		},
	}
}

func newStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show this checkout's lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := state.Load()
			if err != nil {
				return err
			}
			status, err := control.NewClient(s.Control()).Status(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Printf("lab of %s: %s\nkubeconfig %s\n\n", s.Checkout, status.Phase, s.Kubeconfig())
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CLUSTER\tSERVER\tSTOPPED")
			for _, c := range status.Clusters {
				stopped := slices.DeleteFunc(c.Components, func(name string) bool { return c.Running[name] != 0 })
				fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Server, strings.Join(stopped, ", "))
			}
			return w.Flush()
		},
	}
}

func newKubeconfig() *cobra.Command {
	return &cobra.Command{
		Use: "kubeconfig", Short: "Print the path of the lab's kubeconfig", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := state.Load()
			if err != nil {
				return err
			}
			fmt.Println(s.Kubeconfig())
			return nil
		},
	}
}

func newLogs() *cobra.Command {
	return &cobra.Command{
		Use: "logs CLUSTER COMPONENT", Short: "Print the log of a cluster's component", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := state.Load()
			if err != nil {
				return err
			}
			name := args[1]
			if name != component.Etcd {
				if name, err = environment.FindComponent(s, args[0], name); err != nil {
					return err
				}
			}
			b, err := os.ReadFile(filepath.Join(s.ClusterDir(args[0]), name+".log"))
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(b)
			return err
		},
	}
}

// newActions are the commands that act on a component of a cluster.
func newActions() []*cobra.Command {
	var all []*cobra.Command
	for action, short := range map[string]string{
		"stop":   "End a cluster's component",
		"start":  "Start a cluster's component that was stopped",
		"pause":  "Make a cluster's component hang",
		"resume": "Let a paused component go on",
	} {
		all = append(all, &cobra.Command{
			Use: action + " CLUSTER COMPONENT", Short: short, Args: cobra.ExactArgs(2),
			Long: short + ". Components are " + strings.Join(cluster.Components(), ", ") + "; kube- may be left out.\n" +
				"Those of the OpenStack are " + strings.Join(openstack.Services(), ", ") + ".",
			Example: "  lab " + action + " us-east apiserver\n  lab " + action + " os-1 octavia",
			RunE: func(cmd *cobra.Command, args []string) error {
				s, err := state.Load()
				if err != nil {
					return err
				}
				return control.NewClient(s.Control()).Act(cmd.Context(), args[0], args[1], action)
			},
		})
	}
	return all
}

func newExec() *cobra.Command {
	return &cobra.Command{
		Use: "exec CLUSTER -- COMMAND [ARGUMENT...]", Short: "Run a command in a cluster's network",
		Long: `exec runs a command on a cluster's node, as to network, processes and mounts, with the
cluster's kubeconfig. The cluster "lab" stands for the network between the clusters, and
the OpenStack's name for that of its load balancers' members.`,
		Example: "  lab exec us-east -- nft list ruleset\n  lab exec lab -- curl -H 'Host: web.team-a.example.com' http://10.89.0.10:8080/",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := state.Load()
			if err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			return execIn(cmd.Context(), s, args[0], args[1:])
		},
	}
}

// execIn runs a command in the network of the cluster called name.
func execIn(ctx context.Context, s *state.State, name string, args []string) error {
	env, netNS := append(os.Environ(), s.Environ()...), ""
	if name != "lab" {
		netNS = "/run/netns/" + name
	}
	if name != "lab" && (name == "" || name != s.OpenStack()) {
		if _, err := s.Cluster(name); err != nil {
			return err
		}
		env = append(env, "KUBECONFIG="+filepath.Join(s.ClusterDir(name), "kubeconfig"))
	}
	// The components' kubectl comes first, for finding the command too.
	if err := os.Setenv("PATH", s.Bin()+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.Env, command.Stdin, command.Stdout, command.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	var err error
	if s.Inside {
		err = process.In(netNS, command.Start)
	} else {
		err = contain.Enter(s.Init, netNS, command)
	}
	if err != nil {
		return err
	}
	err = command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exitCode(exit.ExitCode())
	}
	return err
}

func newComponents() *cobra.Command {
	return &cobra.Command{
		Use: "components", Short: "Make every component and list them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := component.Open(os.Stderr)
			if err != nil {
				return err
			}
			start := time.Now()
			if err := cache.All(cmd.Context()); err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "COMPONENT\tVERSION\tPATH")
			for _, name := range cache.Names() {
				version, err := cache.Version(name)
				if err != nil {
					return err
				}
				path, err := cache.Path(cmd.Context(), name)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", name, version, path)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "All there after %s.\n", time.Since(start).Round(time.Second))
			return nil
		},
	}
}
