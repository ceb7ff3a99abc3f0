// Package image makes container images without a registry or a daemon, as
// archives that containerd imports, and knows those that a lab runs.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Image is an image of one layer.
type Image struct {
	// Ref is its full name, as manifests write it.
	Ref string
	// User is the numeric user that it runs as; empty means root.
	User string
	// Entrypoint is what it runs.
	Entrypoint []string
	// Files maps paths in the image to files of this machine.
	Files map[string]string
}

// Write makes the image's archive at path. The same files make the same archive.
func (i Image) Write(path string) error {
	if err := i.write(path); err != nil {
		return fmt.Errorf("make image %s: %w", i.Ref, err)
	}
	return nil
}

func (i Image) write(path string) (err error) {
	layer, err := os.CreateTemp(filepath.Dir(path), "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	hash := sha256.New()
	if err := i.writeLayer(io.MultiWriter(layer, hash)); err != nil {
		return err
	}
	digest := hex.EncodeToString(hash.Sum(nil))
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{
			"Entrypoint": i.Entrypoint, "User": i.User, "Env": []string{"PATH=/usr/local/bin:/bin"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	configName := hex.EncodeToString(sum(config)) + ".json"
	layerName := digest + "/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{i.Ref}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	if err := writeBytes(w, configName, config); err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: layerName, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	if _, err := io.Copy(w, layer); err != nil {
		return err
	}
	if err := writeBytes(w, "manifest.json", manifest); err != nil {
		return err
	}
	return w.Close()
}

// writeLayer writes the image's files, and what programs count on besides: /tmp and users' names.
func (i Image) writeLayer(out io.Writer) error {
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return err
	}
	const users = "root:x:0:0:root:/:/bin/false\nnonroot:x:65532:65532::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"
	if err := writeBytes(w, "etc/passwd", []byte(users)); err != nil {
		return err
	}
	var names []string
	for name := range i.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := writeFile(w, name, i.Files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeFile(w *tar.Writer, name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: relative(name), Mode: int64(info.Mode().Perm()), Size: info.Size()}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

func writeBytes(w *tar.Writer, name string, b []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func relative(name string) string {
	for len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	return name
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
