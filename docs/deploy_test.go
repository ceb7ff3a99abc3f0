package docs_test

import (
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// TestMemoryLimitLeavesRoom holds GOMEMLIMIT at about 90 % of the memory limit.
func TestMemoryLimitLeavesRoom(t *testing.T) {
	text, err := os.ReadFile("../deploy/discovery/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest, _, _ := strings.Cut(string(text), "\n---\n")
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict([]byte(manifest), &d); err != nil {
		t.Fatal(err)
	}
	container := d.Spec.Template.Spec.Containers[0]
	limit := container.Resources.Limits.Memory().Value()
	for _, e := range container.Env {
		if e.Name != "GOMEMLIMIT" {
			continue
		}
		q, err := resource.ParseQuantity(strings.TrimSuffix(e.Value, "B"))
		if err != nil {
			t.Fatalf("GOMEMLIMIT is %q: %v", e.Value, err)
		}
		if share := 100 * q.Value() / limit; share < 88 || share > 91 {
			t.Errorf("GOMEMLIMIT is %s, %d %% of the memory limit; want about 90 %%", e.Value, share)
		}
		return
	}
	t.Error("GOMEMLIMIT isn't set")
}
