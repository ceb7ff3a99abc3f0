package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/environment"
)

func newUp() *cobra.Command {
	opts := environment.Options{Progress: os.Stderr}
	cmd := &cobra.Command{
		Use:   "up [flags] [-- COMMAND [ARGUMENT...]]",
		Short: "Start the lab, and run it until Ctrl-C or COMMAND's end",
		Long: `up starts the clusters, installs Gimbal in the first, as deploy/ ships it, adds the
others as upstreams, and deploys sample applications there. An OpenStack (Keystone and
Octavia) is one more upstream, called os-1. Then it waits for Ctrl-C.

With COMMAND it runs that in the lab's network, from where all pods can be reached,
and ends with its exit code. The command has kubectl first on its PATH and finds in
its environment:

  KUBECONFIG, GIMBAL_LAB_KUBECONFIG  a kubeconfig with one context for each cluster
  GIMBAL_LAB_ADDRESS                 the address of the tier; Envoy has ports 8080 and 8443
  GIMBAL_LAB_DIR                     the lab's directory, with each cluster's logs
  GIMBAL_LAB_OPENSTACK               the OpenStack's directory, with clouds.yaml, ca.crt
                                     and its administrator's access.json

The commands lab exec, lab stop, lab start and so on are there too.

The lab's network leads nowhere else: what COMMAND needs of the Go module proxy or
of other places has to be there already.`,
		Example: `  lab up
  lab up --bare --clusters central
  lab up -- go test ./test/e2e/...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return fmt.Errorf("unexpected %q; a command to run comes after --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Command = args
			if !cmd.Flags().Changed("openstack") {
				opts.OpenStack = !opts.Bare
			}
			if err := checkClusters(opts.Clusters); err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			code, err := environment.Run(cmd.Context(), opts, func(dir string) []string { return []string{"inside", dir} })
			return result(code, err)
		},
	}
	cmd.Flags().StringSliceVar(&opts.Clusters, "clusters", []string{"central", "us-east", "us-west"}, "the clusters' names, the central one first")
	cmd.Flags().BoolVar(&opts.Bare, "bare", false, "start the clusters and install nothing")
	cmd.Flags().BoolVar(&opts.OpenStack, "openstack", true, "start an OpenStack too; with --bare only where this is given")
	return cmd
}

// newInside is what up starts inside the containment.
func newInside() *cobra.Command {
	return &cobra.Command{
		Use: "inside DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := environment.Inside(cmd.Context(), args[0], os.Stderr)
			return result(code, err)
		},
	}
}

// result prefers an error over an exit code.
func result(code int, err error) error {
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

func checkClusters(names []string) error {
	label := regexp.MustCompile(`^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`)
	for i, name := range names {
		if !label.MatchString(name) || slices.Contains([]string{"lab", "bin", "images", "deploy", environment.OpenStack}, name) {
			return fmt.Errorf("cluster name %q isn't possible: it takes a DNS label of at most 40 characters that starts with a letter, and not lab, bin, images, deploy or %s", name, environment.OpenStack)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("cluster name %q is there twice", name)
		}
	}
	if len(names) == 0 {
		return errors.New("a lab needs a cluster; name one with --clusters")
	}
	return nil
}

// needRoot explains, to a user who isn't root, why the lab needs root and how to start it.
func needRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		self = "lab"
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	if cache, err := component.Dir(); err == nil {
		env = append(env, "GIMBAL_CACHE="+cache)
	}
	if home, err := os.UserHomeDir(); err == nil {
		env = append(env, "GOMODCACHE="+filepath.Join(home, "go", "pkg", "mod"))
	}
	for i := range env {
		env[i] = quote(env[i])
	}
	args := []string{quote(self)}
	for _, a := range os.Args[1:] {
		args = append(args, quote(a))
	}
	return fmt.Errorf("nodes need root: containers, mounts, cgroups and network namespaces are root's to make; run\n\n  sudo env %s %s", strings.Join(env, " "), strings.Join(args, " "))
}

// quote makes s one word of a shell.
func quote(s string) string {
	if regexp.MustCompile(`^[-+=:,./_a-zA-Z0-9]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
