// Package component has every program that a lab runs, at a pinned version:
// built from Go modules, or fetched, once, into a cache outside the checkout.
package component

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/projectcontour/gimbal/lab/checkout"
)

// Cache holds components, one directory each, named after the component, its
// version and a hash of all that its build depends on.
type Cache struct {
	dir      string
	modules  string
	toolkit  string
	python   func() (python, error)
	progress io.Writer
	recipes  []recipe
}

// Open returns the user's cache ($GIMBAL_CACHE, or gimbal in $XDG_CACHE_HOME or
// in ~/.cache) for the pins of the checkout that holds the working directory.
// What is being built, and for how long, goes to progress.
func Open(progress io.Writer) (*Cache, error) {
	root, err := checkout.Root()
	if err != nil {
		return nil, err
	}
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	version, err := exec.Command("go", "version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask Go for its version: %w; the lab builds its components with Go, install it first", err)
	}
	return &Cache{
		dir: dir, modules: filepath.Join(root, "lab", "component"),
		toolkit: string(version), python: sync.OnceValues(findPython), progress: progress, recipes: recipes(),
	}, nil
}

// Dir is the directory of the user's cache, whether it exists or not.
func Dir() (string, error) {
	if dir := os.Getenv("GIMBAL_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory: %w; set GIMBAL_CACHE to one", err)
	}
	return filepath.Join(base, "gimbal"), nil
}

// Names lists the components in the order in which All makes them.
func (c *Cache) Names() []string {
	var names []string
	for _, r := range c.recipes {
		if r.Name != libseccomp {
			names = append(names, r.Name)
		}
	}
	return names
}

// All makes every component that the cache lacks.
func (c *Cache) All(ctx context.Context) error {
	for _, name := range c.Names() {
		if _, err := c.Path(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Path returns the file of the component called name, which it makes first if
// the cache lacks it.
func (c *Cache) Path(ctx context.Context, name string) (string, error) {
	r, err := c.recipe(name)
	if err != nil {
		return "", err
	}
	if name == Nft || name == MariaDB {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	entry, err := c.entry(r)
	if err != nil {
		return "", fmt.Errorf("component %s: %w", name, err)
	}
	if err := c.ensure(ctx, r, entry); err != nil {
		return "", fmt.Errorf("component %s: %w", name, err)
	}
	return filepath.Join(entry, name), nil
}

// Version returns the pinned version of the component called name; for
// Debian's packages, which the distribution pins, "debian".
func (c *Cache) Version(name string) (string, error) {
	r, err := c.recipe(name)
	if err != nil {
		return "", err
	}
	return c.version(r)
}

// Source returns the directory of the Go module that the component called name
// is built from, at the pinned version.
func (c *Cache) Source(ctx context.Context, name string) (string, error) {
	r, err := c.recipe(name)
	if err != nil {
		return "", err
	}
	cmd := goCommand(ctx, filepath.Join(c.modules, r.Module), "mod", "download", "-json", r.Source)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download module %s: %w%s", r.Source, err, stderr(err))
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("download module %s: %w", r.Source, err)
	}
	return module.Dir, nil
}

func (c *Cache) recipe(name string) (recipe, error) {
	for _, r := range c.recipes {
		if r.Name == name {
			return r, nil
		}
	}
	return recipe{}, fmt.Errorf("there is no component %q; there are %s", name, strings.Join(c.Names(), ", "))
}

func (c *Cache) version(r recipe) (string, error) {
	switch {
	case r.Version != "":
		return r.Version, nil
	case r.Script != "":
		return c.Version(OpenStack)
	case r.Requirements != "":
		return pinned(filepath.Join(c.modules, r.Requirements), r.Source)
	case r.Module == "":
		return "debian", nil
	}
	path := filepath.Join(c.modules, r.Module, "go.mod")
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	mod, err := modfile.Parse(path, b, nil)
	if err != nil {
		return "", err
	}
	for _, req := range mod.Require {
		if req.Mod.Path == r.Source {
			return req.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s doesn't require %s", path, r.Source)
}

// entry is the cache directory of a recipe, whether it exists or not.
func (c *Cache) entry(r recipe) (string, error) {
	version, err := c.version(r)
	if err != nil {
		return "", err
	}
	key, err := c.key(r)
	if err != nil {
		return "", err
	}
	return filepath.Join(c.dir, r.Name+"-"+version+"-"+key), nil
}

// key hashes all that a component's bytes depend on: its recipe, the files that
// pin or make it, the tools' own versions, and the components that it is made with.
func (c *Cache) key(r recipe) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(r); err != nil {
		return "", err
	}
	var err error
	switch {
	case r.Module != "":
		fmt.Fprintln(h, c.toolkit)
		err = hashFiles(h, filepath.Join(c.modules, r.Module))
	case r.Requirements != "":
		var p python
		if p, err = c.python(); err == nil {
			fmt.Fprintln(h, p, p.wrapper())
			err = hashFiles(h, filepath.Join(c.modules, r.Requirements))
		}
	case r.Script != "":
		if err = c.hashMakers(h, r); err == nil {
			err = hashFiles(h, filepath.Join(c.modules, r.Script))
		}
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// hashFiles hashes a file, or a directory's files.
func hashFiles(h io.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n%s", strings.TrimPrefix(path, root), len(b), b)
		return nil
	})
}

// ensure makes entry if it doesn't exist. Two labs that want the same entry
// make it once; an entry is complete as soon as it exists.
func (c *Cache) ensure(ctx context.Context, r recipe, entry string) error {
	if exists(entry) {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	unlock, err := c.lock(ctx, r, entry)
	if err != nil {
		return err
	}
	defer unlock()
	if exists(entry) {
		return nil
	}
	building := filepath.Join(c.dir, ".building-"+filepath.Base(entry))
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	if err := os.MkdirAll(building, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(building)
	start := time.Now()
	c.say("%s: making it, once for this machine (about %s)", filepath.Base(entry), r.about)
	if err := c.make(ctx, r, building); err != nil {
		return err
	}
	if err := os.Rename(building, entry); err != nil {
		return err
	}
	c.say("%s: made in %s", filepath.Base(entry), time.Since(start).Round(100*time.Millisecond))
	return nil
}

// lock takes the entry's lock, which a killed process gives back.
func (c *Cache) lock(ctx context.Context, r recipe, entry string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, ".lock-"+filepath.Base(entry)), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			c.say("%s: another process is making it; waiting", r.Name)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (c *Cache) say(format string, args ...any) {
	fmt.Fprintf(c.progress, format+"\n", args...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
