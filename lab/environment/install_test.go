package environment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/lab/state"
)

func TestCopyDeployStandsInForTheRemoteReference(t *testing.T) {
	const remote = "https://example.com/projectcontour/contour/v1.33.8/examples/render/contour.yaml"
	tests := map[string]struct {
		files map[string]string
		ok    bool
	}{
		"one reference": {map[string]string{"contour/kustomization.yaml": "resources:\n  - " + remote + "\n", "kustomization.yaml": "resources: [contour]\n"}, true},
		"none":          {map[string]string{"kustomization.yaml": "resources: []\n"}, false},
		"two":           {map[string]string{"a/kustomization.yaml": remote, "b/kustomization.yaml": remote}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			checkout := t.TempDir()
			for path, text := range tt.files {
				write(t, filepath.Join(checkout, "deploy", path), text)
			}
			contour := filepath.Join(t.TempDir(), "contour.yaml")
			write(t, contour, "kind: List\n")
			in := &inside{state: &state.State{Checkout: checkout, Dir: t.TempDir(), ContourManifests: contour}}
			dir, err := in.copyDeploy()
			if (err == nil) != tt.ok {
				t.Fatalf("copyDeploy: %v", err)
			}
			if !tt.ok {
				return
			}
			b, err := os.ReadFile(filepath.Join(dir, "contour", "kustomization.yaml"))
			if err != nil || strings.Contains(string(b), "https:") || !strings.Contains(string(b), "- contour-release.yaml") {
				t.Errorf("the copy reads %q, %v", b, err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "contour", "contour-release.yaml")); err != nil || string(b) != "kind: List\n" {
				t.Errorf("Contour's manifests are %q, %v", b, err)
			}
		})
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
