// Package environment is the lab as a whole: what is prepared on the host, what
// runs inside the containment, and how Gimbal is installed there.
package environment

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/image"
	"github.com/projectcontour/gimbal/lab/network"
	"github.com/projectcontour/gimbal/lab/state"
)

// Options say which lab to run.
type Options struct {
	// Clusters are the clusters' names; the first is the central one.
	Clusters []string
	// Bare labs get clusters and nothing installed.
	Bare bool
	// OpenStack is for an OpenStack beside the clusters.
	OpenStack bool
	// Command is what to run; without one, the lab runs until it is ended.
	Command []string
	// Progress takes what the user is told meanwhile.
	Progress io.Writer
}

// MakeComponents makes the components that such a lab needs and the cache lacks.
func MakeComponents(ctx context.Context, components *component.Cache, opts Options) error {
	for _, name := range needed(components, opts) {
		if _, err := components.Path(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func needed(components *component.Cache, opts Options) []string {
	return slices.DeleteFunc(components.Names(), func(name string) bool {
		return opts.Bare && (name == component.Contour || name == component.Envoy) || !opts.OpenStack && ofOpenStack(name)
	})
}

// ofOpenStack tells whether a component is one that users of the lab don't run themselves.
func ofOpenStack(name string) bool {
	return slices.Contains([]string{component.MariaDB, component.OpenStack, component.OpenStackData}, name)
}

// prepare fills s and its directory: links to the components, and the images.
func prepare(ctx context.Context, s *state.State, index int, opts Options, components *component.Cache) error {
	openstack := ""
	if opts.OpenStack {
		openstack = OpenStack
	}
	plan, err := network.NewPlan(index, opts.Clusters, openstack)
	if err != nil {
		return err
	}
	s.Plan, s.Bare, s.Command = plan, opts.Bare, opts.Command
	for _, name := range needed(components, opts) {
		if ofOpenStack(name) {
			continue
		}
		path, err := components.Path(ctx, name)
		if err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(s.Bin(), name)); err != nil {
			return fmt.Errorf("link the components: %w", err)
		}
	}
	fmt.Fprintln(opts.Progress, "Making the images.")
	maker := image.Maker{Checkout: s.Checkout, Dir: s.Images(), Components: components}
	if s.BaseImages, err = maker.Base(ctx); err != nil {
		return err
	}
	if opts.Bare {
		return nil
	}
	if s.CentralImages, err = maker.Central(ctx); err != nil {
		return err
	}
	for _, name := range []string{"gimbal", "kubectl-gimbal"} {
		if err := os.Symlink(filepath.Join(s.Images(), "gimbal"), filepath.Join(s.Bin(), name)); err != nil {
			return fmt.Errorf("link gimbal: %w", err)
		}
	}
	s.Contour, err = image.Contour(ctx, components)
	return err
}
