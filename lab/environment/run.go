package environment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/contain"
	"github.com/projectcontour/gimbal/lab/state"
)

// Run runs a lab of the checkout that holds the working directory until ctx ends
// or its command does, and returns the command's exit code. It needs root. The
// program must call contain.Child first, and inside is how it is started to
// call Inside.
func Run(ctx context.Context, opts Options, inside func(dir string) []string) (code int, err error) {
	root, err := checkout.Root()
	if err != nil {
		return 0, err
	}
	components, err := component.Open(opts.Progress)
	if err != nil {
		return 0, err
	}
	if err := MakeComponents(ctx, components, opts); err != nil {
		return 0, err
	}
	lease, err := contain.Acquire(checkout.ID(root))
	if errors.Is(err, contain.ErrRunning) {
		return 0, fmt.Errorf("the checkout %s has a lab that runs; end it with: lab down", root)
	}
	if err != nil {
		return 0, err
	}
	s := state.New(root)
	s.Cgroup = fmt.Sprintf("gimbal-lab%d", lease.Index)
	box, err := contain.Open(lease, contain.Remains{Link: s.Cgroup, Dir: s.Dir, Cgroup: s.Cgroup})
	if err != nil {
		lease.Release()
		return 0, err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if err := s.Make(); err != nil {
		return 0, err
	}
	if err := prepare(ctx, s, lease.Index, opts, components); err != nil {
		return 0, err
	}
	if err := s.Save(); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if err := os.Symlink(self, filepath.Join(s.Bin(), "lab")); err != nil {
		return 0, err
	}
	return box.Run(ctx, append([]string{self}, inside(s.Dir)...), func(pid int) error {
		s.Init = pid
		if err := s.Save(); err != nil {
			return err
		}
		return s.Plan.ConnectHost(pid)
	})
}
