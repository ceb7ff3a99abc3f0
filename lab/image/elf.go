package image

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// libraries returns the loader and the shared libraries that the program at path
// needs, by the paths at which they are found on this machine, which are those
// at which the loader looks for them.
func libraries(path string) (map[string]string, error) {
	found := map[string]string{}
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return nil, fmt.Errorf("loader of %s: %w", path, err)
			}
			loader := strings.TrimRight(string(b), "\x00")
			found[loader] = loader
		}
	}
	return found, addLibraries(path, found)
}

func addLibraries(path string, found map[string]string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", path, err)
	}
	for _, name := range names {
		at, err := find(name)
		if err != nil {
			return fmt.Errorf("libraries of %s: %w", path, err)
		}
		if _, seen := found[at]; seen {
			continue
		}
		found[at] = at
		if err := addLibraries(at, found); err != nil {
			return err
		}
	}
	return nil
}

func find(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		files, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if _, err := os.Stat(f); err == nil {
				return f, nil
			}
		}
	}
	return "", fmt.Errorf("no library %s on this machine; the program needs glibc", name)
}
