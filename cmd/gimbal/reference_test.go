package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/reference"
)

var update = flag.Bool("update", false, "rewrite docs/reference")

// TestReference holds docs/reference to what the program defines.
func TestReference(t *testing.T) {
	for file, write := range map[string]func() (string, error){
		"cli.md":             func() (string, error) { return reference.Commands(newRootCommand("gimbal")), nil },
		"metrics.md":         metricsPage,
		"reasons.md":         reasonsPage,
		"upstreamcluster.md": resourcePage,
	} {
		t.Run(file, func(t *testing.T) {
			got, err := write()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("../../docs/reference", file)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is out of date; run make generate. It should be:\n%s", path, got)
			}
		})
	}
}

func metricsPage() (string, error) {
	return reference.Metrics(discovery.Metrics)
}

func reasonsPage() (string, error) {
	return reference.ReasonsPage([]reference.Reasons{
		{
			Title: "The UpstreamCluster",
			Intro: "The reason of a condition or of an event of an UpstreamCluster.",
			Files: []string{"../../internal/discovery/*.go", "../../internal/accept/*.go", "../../internal/upstream/config.go", "../../internal/upstream/*/kind.go"},
		},
		{
			Title: "Contact",
			Intro: "Why the condition `Reachable` isn't True, and the label of `gimbal_upstream_failures_total`.",
			Files: []string{"../../internal/upstream/upstream.go"},
		},
		{
			Title: "Refusals",
			Intro: "Why an upstream object, or a part of one, isn't mirrored: in the status, and the label of `gimbal_upstream_refusals`.",
			Files: []string{"../../internal/mirror/*.go"},
		},
	})
}

func resourcePage() (string, error) {
	manifest, err := os.ReadFile("../../deploy/crds/gimbal.projectcontour.io_upstreamclusters.yaml")
	if err != nil {
		return "", err
	}
	return reference.Resource(manifest)
}
