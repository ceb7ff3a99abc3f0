package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/lab/manifests"
)

func TestCopyStandsInForTheRemoteReferences(t *testing.T) {
	const release, crds = "examples/render/contour.yaml", "examples/contour/01-crds.yaml"
	remote := func(version, path string) string {
		return "resources:\n  - https://raw.githubusercontent.com/projectcontour/contour/" + version + "/" + path + "\n"
	}
	tests := map[string]struct {
		files map[string]string // of deploy/
		want  map[string]string // none: it is an error
	}{
		"two references": {
			files: map[string]string{
				"kustomization.yaml":      "resources: [a]\n",
				"a/kustomization.yaml":    remote("v1.2.3", release),
				"crds/kustomization.yaml": remote("v1.2.3", crds),
			},
			want: map[string]string{
				"kustomization.yaml":        "resources: [a]\n",
				"a/kustomization.yaml":      "resources:\n  - contour-contour.yaml\n",
				"a/contour-contour.yaml":    release,
				"crds/kustomization.yaml":   "resources:\n  - contour-01-crds.yaml\n",
				"crds/contour-01-crds.yaml": crds,
			},
		},
		"none":            {files: map[string]string{"kustomization.yaml": "resources: []\n"}},
		"another version": {files: map[string]string{"kustomization.yaml": remote("v1.2.4", release)}},
		"no such file":    {files: map[string]string{"kustomization.yaml": remote("v1.2.3", "examples/none.yaml")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			checkout, contour, dir := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "copy")
			for path, text := range tt.files {
				write(t, filepath.Join(checkout, "deploy", path), text)
			}
			for _, path := range []string{release, crds} {
				write(t, filepath.Join(contour, path), path)
			}
			err := manifests.Copy(checkout, dir, manifests.Contour{Version: "v1.2.3", Dir: contour})
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("Copy: %v", err)
			}
			for path, want := range tt.want {
				if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
					t.Errorf("%s reads %q (%v), want %q", path, got, err, want)
				}
			}
		})
	}
}

// TestDeployTurnsToOneRelease shows that deploy/ names its remote files in the form that Copy knows.
func TestDeployTurnsToOneRelease(t *testing.T) {
	for _, path := range []string{"contour", "contour-crds"} {
		b, err := os.ReadFile(filepath.Join("../../deploy", path, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "- https://raw.githubusercontent.com/projectcontour/contour/"); n != 1 {
			t.Errorf("%s names %d files of Contour's release, want one", path, n)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
