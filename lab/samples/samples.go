// Package samples holds the manifests of the lab's sample teams and applications.
package samples

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

// The manifests, as templates: the names of upstreams and of the image are the lab's to say.
var (
	//go:embed upstream.yaml.tmpl
	upstream string
	//go:embed central.yaml.tmpl
	central string
)

// Teams lists the namespaces that the samples live in.
func Teams() []string { return []string{"team-a", "team-b"} }

// Applications lists the Services in each of Teams.
func Applications() []string { return []string{"web", "api"} }

// Upstream returns the manifests for an upstream cluster.
func Upstream(echoImage string) ([]byte, error) {
	return render(upstream, map[string]any{
		"Teams": Teams(), "Applications": Applications(), "Image": echoImage,
	})
}

// Central returns the manifests for the central cluster: the teams' namespaces
// and, for each application, a route to it on all the named upstreams.
func Central(upstreams []string) ([]byte, error) {
	return render(central, map[string]any{
		"Teams": Teams(), "Applications": Applications(), "Upstreams": upstreams,
	})
}

func render(text string, data any) ([]byte, error) {
	t, err := template.New("samples").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("sample manifests: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("sample manifests: %w", err)
	}
	return b.Bytes(), nil
}
