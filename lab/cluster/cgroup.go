package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/projectcontour/gimbal/lab/contain"
)

// makeCgroup makes a cgroup, a path of two names, in every hierarchy and gives
// it what pods' cgroups below it need.
func makeCgroup(name string) error {
	roots := contain.CgroupRoots()
	if len(roots) == 0 {
		return errors.New("no cgroup hierarchy is mounted under /sys/fs/cgroup; the kubelet needs one")
	}
	for _, root := range roots {
		dir := root
		for part := range strings.SplitSeq(name, "/") {
			if err := delegate(dir); err != nil {
				return fmt.Errorf("cgroup %s: %w", name, err)
			}
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("cgroup %s: %w", name, err)
			}
			if err := inheritCPUs(dir); err != nil {
				return fmt.Errorf("cgroup %s: %w", name, err)
			}
		}
		if err := delegate(dir); err != nil {
			return fmt.Errorf("cgroup %s: %w", name, err)
		}
	}
	return nil
}

// delegate makes a version 2 cgroup's controllers available to those below it.
func delegate(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // version 1, where each hierarchy is one controller's
	}
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(b)) {
		// One at a time: a controller that can't be had must not cost the others.
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil && needed(controller) {
			return fmt.Errorf("hand down controller %s in %s: %w", controller, dir, err)
		}
	}
	return nil
}

func needed(controller string) bool {
	switch controller {
	case "cpu", "memory", "pids":
		return true
	default:
		return false
	}
}

// inheritCPUs fills in a new version 1 cpuset, which is empty and lets nothing run.
func inheritCPUs(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own := filepath.Join(dir, name)
		b, err := os.ReadFile(own)
		if errors.Is(err, fs.ErrNotExist) || len(strings.TrimSpace(string(b))) > 0 {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			continue // in version 2, empty means all
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(own, parent, 0o644); err != nil {
			return err
		}
	}
	return nil
}
