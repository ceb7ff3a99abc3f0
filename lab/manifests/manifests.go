// Package manifests makes a copy of deploy/ that needs no network.
package manifests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// remote is a file of a release of Contour.
var remote = regexp.MustCompile(`https://raw\.githubusercontent\.com/projectcontour/contour/([^/\s]+)/(\S+)`)

// Contour is where a release of Contour was unpacked.
type Contour struct{ Version, Dir string }

// Release is the path of the one file that has all manifests of the release.
func (c Contour) Release() string { return filepath.Join(c.Dir, "examples", "render", "contour.yaml") }

// Copy copies deploy/ of the checkout to dir, with its remote references, to files
// of a release of Contour, replaced by these files.
func Copy(checkout, dir string, contour Contour) error {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(checkout, "deploy"))); err != nil {
		return fmt.Errorf("copy deploy/: %w", err)
	}
	replaced := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		n, err := contour.replace(path)
		replaced += n
		return err
	})
	if err == nil && replaced == 0 {
		err = errors.New("no file refers to Contour's release")
	}
	if err != nil {
		return fmt.Errorf("stand in for the remote references in deploy/: %w", err)
	}
	return nil
}

// replace replaces the references in a kustomization, puts their files beside it, and says how many there were.
func (c Contour) replace(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	found := remote.FindAllSubmatch(b, -1)
	for _, m := range found {
		if string(m[1]) != c.Version {
			return 0, fmt.Errorf("%s refers to Contour %s, but the lab runs %s; change one of them", path, m[1], c.Version)
		}
		text, err := os.ReadFile(filepath.Join(c.Dir, filepath.FromSlash(string(m[2]))))
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), local(string(m[2]))), text, 0o644); err != nil {
			return 0, err
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	b = remote.ReplaceAllFunc(b, func(reference []byte) []byte {
		return []byte(local(string(remote.FindSubmatch(reference)[2])))
	})
	return len(found), os.WriteFile(path, b, 0o644)
}

// local is the name of the file that stands in for a path.
func local(path string) string { return "contour-" + filepath.Base(path) }
