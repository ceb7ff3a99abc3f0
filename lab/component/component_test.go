package component

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func testCache(t *testing.T) *Cache {
	t.Helper()
	t.Setenv("GIMBAL_CACHE", t.TempDir())
	c, err := Open(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryComponentIsPinned(t *testing.T) {
	c := testCache(t)
	for _, name := range c.Names() {
		if version, err := c.Version(name); err != nil || version == "" {
			t.Errorf("%s: version %q, %v", name, version, err)
		}
	}
	if _, err := c.Version("kube-nothing"); err == nil || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("an unknown component's error names no others: %v", err)
	}
}

func TestKeyFollowsWhatTheBuildDependsOn(t *testing.T) {
	c := testCache(t)
	modules := t.TempDir()
	if err := os.CopyFS(filepath.Join(modules, "runtime"), os.DirFS(filepath.Join(c.modules, "runtime"))); err != nil {
		t.Fatal(err)
	}
	c.modules = modules
	r, err := c.recipe(CoreDNS)
	if err != nil {
		t.Fatal(err)
	}
	key := func(r recipe) string {
		t.Helper()
		k, err := c.key(r)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(r)
	if again := key(r); again != first {
		t.Errorf("the same recipe has keys %s and %s", first, again)
	}
	later := r
	later.about = time.Hour
	if key(later) != first {
		t.Error("how long a build takes changes its key")
	}
	tagged := r
	tagged.Tags = "other"
	if key(tagged) == first {
		t.Error("other tags don't change the key")
	}
	main := filepath.Join(modules, r.Module, "main.go")
	if err := os.WriteFile(main, []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := key(r)
	if changed == first {
		t.Error("a changed file of the module doesn't change the key")
	}
	c.toolkit = "go version other"
	if key(r) == changed {
		t.Error("another Go doesn't change the key")
	}
}

func TestKeyOfPythonPackages(t *testing.T) {
	c := testCache(t)
	modules := t.TempDir()
	if err := os.CopyFS(filepath.Join(modules, "openstack"), os.DirFS(filepath.Join(c.modules, "openstack"))); err != nil {
		t.Fatal(err)
	}
	c.modules = modules
	c.python = func() (python, error) { return python{Version: "3.11.2"}, nil }
	keys := func() [2]string {
		t.Helper()
		var keys [2]string
		for i, name := range []string{OpenStack, OpenStackData} {
			r, err := c.recipe(name)
			if err != nil {
				t.Fatal(err)
			}
			if keys[i], err = c.key(r); err != nil {
				t.Fatal(err)
			}
		}
		return keys
	}
	first := keys()
	c.python = func() (python, error) { return python{Version: "3.13.5"}, nil }
	second := keys()
	if second[0] == first[0] || second[1] == first[1] {
		t.Error("another Python doesn't change the keys")
	}
	if err := os.WriteFile(filepath.Join(modules, "openstack", "data.py"), []byte("pass\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if third := keys(); third[0] != second[0] || third[1] == second[1] {
		t.Error("a changed script must change the key of what it makes, and of nothing else")
	}
	c.python = func() (python, error) { return python{}, errors.New("no Python here") }
	if version, err := c.Version(OpenStackData); err != nil || version != "19.0.0" {
		t.Errorf("without Python the version is %q, %v", version, err)
	}
}

func TestWrapperPutsItsOwnFlagsLast(t *testing.T) {
	got := wrapper("usr/sbin/mariadbd", `--basedir="HERE/usr"`)
	if want := `exec "$here/usr/sbin/mariadbd" "$@" --basedir="$here/usr"`; !strings.Contains(got, want+"\n") {
		t.Errorf("no %s in\n%s", want, got)
	}
}

// TestMadeOnce: of many that want an entry at once, one makes it, and a killed
// maker's half-done directory is never taken for the entry.
func TestMadeOnce(t *testing.T) {
	c := testCache(t)
	r := recipe{Name: "echo", Module: "runtime/coredns", Source: "github.com/coredns/coredns"}
	entry, err := c.entry(r)
	if err != nil {
		t.Fatal(err)
	}
	var progress lines
	c.progress = &progress
	if err := os.MkdirAll(filepath.Join(c.dir, ".building-"+filepath.Base(entry), "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	// An empty package builds nothing that can be run, and fast; what counts is who builds.
	r.Package, r.Name = "unicode/utf8", "utf8"
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := c.ensure(t.Context(), r, entry); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := strings.Count(progress.String(), "making it, once"); n != 1 {
		t.Errorf("made %d times, want once:\n%s", n, progress.String())
	}
	if exists(filepath.Join(entry, "left")) || !exists(entry) {
		t.Error("the entry isn't what the build made")
	}
}

func TestLockEndsWithContext(t *testing.T) {
	c := testCache(t)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := c.lock(t.Context(), recipe{Name: "x"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.lock(ctx, recipe{Name: "x"}, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a lock returns %v, want the context's end", err)
	}
}

// lines is a writer for several goroutines.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
