package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// python is the machine's Python, as far as what is installed for it depends on it.
type python struct{ Executable, Version, Platform string }

func findPython() (python, error) {
	const say = "import sys, sysconfig; print(sys.executable, sys.version.split()[0], sysconfig.get_platform(), sep='\\n')"
	out, err := exec.Command("python3", "-c", say).Output()
	if err != nil {
		return python{}, fmt.Errorf("ask Python for its version: %w%s; install python3 with pip", err, stderr(err))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 {
		return python{}, fmt.Errorf("ask Python for its version: python3 answers %q; install another python3", out)
	}
	return python{Executable: lines[0], Version: lines[1], Platform: lines[2]}, nil
}

// pinned returns the version of a package that a requirements file pins.
func pinned(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `==(\S+)`).FindSubmatch(b)
	if m == nil {
		return "", fmt.Errorf("%s doesn't pin %s", path, name)
	}
	return string(m[1]), nil
}

// installPython installs packages of PyPI into dir. The component's own file
// becomes a script that runs Python with them, wherever dir is moved to.
func (c *Cache) installPython(ctx context.Context, r recipe, dir string) error {
	p, err := c.python()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.Executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
		"--require-hashes", "--no-deps", "--target", filepath.Join(dir, "site"), "-r", filepath.Join(c.modules, r.Requirements))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install the packages of %s: %w\n%s\nit takes python3 with pip and a way to PyPI", r.Requirements, err, bytes.TrimSpace(out))
	}
	return os.WriteFile(filepath.Join(dir, r.Name), []byte(p.wrapper()), 0o755)
}

// wrapper is a script that runs Python with the packages beside it, and no others.
func (p python) wrapper() string {
	return `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$here/site PYTHONNOUSERSITE=1 PYTHONWARNINGS=ignore exec "` + p.Executable + `" "$@"
`
}

// runScript runs a recipe's script in a directory of the component's name.
func (c *Cache) runScript(ctx context.Context, r recipe, dir string) error {
	openstack, err := c.Path(ctx, OpenStack)
	if err != nil {
		return err
	}
	needed, err := c.Path(ctx, r.Needs)
	if err != nil {
		return err
	}
	out := filepath.Join(dir, r.Name)
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, openstack, filepath.Join(c.modules, r.Script), needed)
	cmd.Dir = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", r.Script, err, bytes.TrimSpace(said[max(0, len(said)-4000):]))
	}
	return nil
}

// hashMakers hashes what runs a recipe's script: OpenStack and what it needs,
// which is an entry of the cache or else an installed program.
func (c *Cache) hashMakers(h io.Writer, r recipe) error {
	for _, name := range []string{OpenStack, r.Needs} {
		maker, err := c.recipe(name)
		if err != nil {
			return err
		}
		entry, err := c.entry(maker)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, filepath.Base(entry))
	}
	installed, err := exec.LookPath(r.Needs)
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	version, err := exec.Command(installed, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w%s", installed, err, stderr(err))
	}
	_, err = h.Write(version)
	return err
}
