package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/projectcontour/gimbal/lab/component"
	"github.com/projectcontour/gimbal/lab/manifests"
)

// The lab's own images; manifests of the lab name them.
const (
	Pause   = "gimbal.lab/pause:1"
	CoreDNS = "gimbal.lab/coredns:1"
	Echo    = "gimbal.lab/echo:1"
)

// nonroot is the user of images that need no privileges.
const nonroot = "65532"

// Maker makes the images of a lab.
type Maker struct {
	// Checkout is the root of the checkout whose programs and manifests are used.
	Checkout string
	// Dir takes the archives.
	Dir string
	// Components gives the programs that the lab doesn't build from the checkout.
	Components *component.Cache
}

// Base makes the images that every cluster needs and returns their archives.
func (m Maker) Base(ctx context.Context) ([]string, error) {
	pause, err := m.build(ctx, "lab", "./cmd/pause")
	if err != nil {
		return nil, err
	}
	echo, err := m.build(ctx, "lab", "./cmd/echo")
	if err != nil {
		return nil, err
	}
	dns, err := m.Components.Path(ctx, component.CoreDNS)
	if err != nil {
		return nil, err
	}
	return m.write([]Image{
		{Ref: Pause, User: nonroot, Entrypoint: []string{"/pause"}, Files: map[string]string{"/pause": pause}},
		{Ref: Echo, User: nonroot, Entrypoint: []string{"/echo"}, Files: map[string]string{"/echo": echo}},
		{Ref: CoreDNS, User: nonroot, Entrypoint: []string{"/coredns"}, Files: map[string]string{"/coredns": dns}},
	})
}

// Central makes the images that the shipped manifests name, under the very names
// that they have there, and returns their archives.
func (m Maker) Central(ctx context.Context) ([]string, error) {
	gimbalRef, err := reference(filepath.Join(m.Checkout, "deploy", "discovery", "deployment.yaml"), "gimbal")
	if err != nil {
		return nil, err
	}
	gimbal, err := m.build(ctx, ".", "./cmd/gimbal", "-X", "main.version="+tag(gimbalRef))
	if err != nil {
		return nil, err
	}
	contour, err := m.Components.Path(ctx, component.Contour)
	if err != nil {
		return nil, err
	}
	release, err := Contour(ctx, m.Components)
	if err != nil {
		return nil, err
	}
	contourRef, err := reference(release.Release(), "contour")
	if err != nil {
		return nil, err
	}
	envoyRef, err := reference(release.Release(), "envoy")
	if err != nil {
		return nil, err
	}
	envoy, err := m.Components.Path(ctx, component.Envoy)
	if err != nil {
		return nil, err
	}
	files, err := libraries(envoy)
	if err != nil {
		return nil, err
	}
	files["/usr/local/bin/envoy"] = envoy
	return m.write([]Image{
		{Ref: gimbalRef, User: nonroot, Entrypoint: []string{"/gimbal"}, Files: map[string]string{"/gimbal": gimbal}},
		{Ref: contourRef, User: nonroot, Entrypoint: []string{"/bin/contour"}, Files: map[string]string{"/bin/contour": contour}},
		{Ref: envoyRef, User: nonroot, Entrypoint: []string{"/usr/local/bin/envoy"}, Files: files},
	})
}

// Contour returns the release of Contour that the lab runs.
func Contour(ctx context.Context, components *component.Cache) (manifests.Contour, error) {
	version, err := components.Version(component.Contour)
	if err != nil {
		return manifests.Contour{}, err
	}
	dir, err := components.Source(ctx, component.Contour)
	return manifests.Contour{Version: version, Dir: dir}, err
}

// reference finds, in a file of manifests, the image whose repository is called name.
func reference(path, name string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	pattern := regexp.MustCompile(`(?m)^\s*(?:- )?image: "?(\S+/` + regexp.QuoteMeta(name) + `:[^\s"]+)`)
	found := pattern.FindSubmatch(b)
	if found == nil {
		return "", fmt.Errorf("%s names no image called %s", path, name)
	}
	return string(found[1]), nil
}

// tag is what follows the last colon of an image's name.
func tag(ref string) string { return ref[strings.LastIndex(ref, ":")+1:] }

// build builds a program of the checkout, static, from its module in dir.
func (m Maker) build(ctx context.Context, dir, pkg string, ldflags ...string) (string, error) {
	out := filepath.Join(m.Dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(append([]string{"-s", "-w"}, ldflags...), " "), "-o", out, pkg)
	cmd.Dir = filepath.Join(m.Checkout, dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s in %s: %w\n%s", pkg, cmd.Dir, err, bytes.TrimSpace(msg))
	}
	return out, nil
}

func (m Maker) write(images []Image) ([]string, error) {
	var paths []string
	for _, i := range images {
		path := filepath.Join(m.Dir, regexp.MustCompile(`[^a-zA-Z0-9.]+`).ReplaceAllString(i.Ref, "-")+".tar")
		if err := i.Write(path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
