package checkout_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/projectcontour/gimbal/lab/checkout"
)

func TestRoot(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(root, "lab", "component", "kubernetes")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := checkout.RootFrom(below); err == nil {
		t.Errorf("a directory that is no checkout has root %s", got)
	}
	if err := os.WriteFile(filepath.Join(below, "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{below, root} {
		if got, err := checkout.RootFrom(dir); err != nil || got != root {
			t.Errorf("root of %s: %s, %v; want %s", dir, got, err, root)
		}
	}
	if checkout.ID("/a") == checkout.ID("/b") {
		t.Error("checkouts' ids aren't their own")
	}
}
