// Package checkout finds the checkout of Gimbal that a command or a test runs in.
package checkout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// mark is the file that tells a checkout's root from any other directory.
const mark = "lab/component/kubernetes/go.mod"

// Root returns the absolute path of the checkout that holds the working directory.
func Root() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	return RootFrom(wd)
}

// RootFrom returns the absolute path of the checkout that holds dir.
func RootFrom(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, mark)); err == nil {
			return filepath.EvalSymlinks(d)
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside a checkout of Gimbal: no directory above it holds %s; change into one", abs, mark)
		}
	}
}

// ID is a short name for the checkout at root, the same at every run and
// different from every other checkout's on this machine.
func ID(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:4])
}
