package state

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/projectcontour/gimbal/lab/network"
)

// TestLoadFromAnyDirectory calls the program by the link on the PATH that a lab prints.
func TestLoadFromAnyDirectory(t *testing.T) {
	plan, err := network.NewPlan(0, []string{"central"}, "")
	if err != nil {
		t.Fatal(err)
	}
	lab := &State{Checkout: "/somewhere", Dir: filepath.Join(t.TempDir(), "lab"), Plan: plan}
	if err := lab.Make(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(lab.Bin(), "lab")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		saved         bool
		program, path string
		want          bool
	}{
		"by the PATH":              {true, "lab", lab.Bin(), true},
		"by its path":              {true, filepath.Join(lab.Bin(), "lab"), "", true},
		"by the PATH, not saved":   {false, "lab", lab.Bin(), false},
		"by another program's way": {true, self, "", false},
	}
	t.Chdir(t.TempDir())
	t.Setenv(dirVariable, "")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.saved {
				if err := lab.Save(); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(filepath.Join(lab.Dir, file))
			}
			t.Setenv("PATH", tt.path)
			got, err := load(tt.program)
			if found := err == nil && got.Checkout == lab.Checkout; found != tt.want {
				t.Errorf("load(%q) finds %v, %v", tt.program, got, err)
			}
		})
	}
}
