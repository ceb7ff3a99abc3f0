package environment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/lab/network"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/lab/state"
)

func TestFindComponent(t *testing.T) {
	plan, err := network.NewPlan(0, []string{"central"}, OpenStack)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ of, name, want string }{
		"a cluster's":          {"central", "apiserver", "kube-apiserver"},
		"the OpenStack's":      {OpenStack, "octavia", "octavia"},
		"of the wrong one":     {OpenStack, "kubelet", ""},
		"of the other":         {"central", "octavia", ""},
		"of what isn't there":  {"us-east", "kubelet", ""},
		"of what has no name":  {"", "octavia", ""},
		"that there isn't any": {OpenStack, "nova", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := FindComponent(&state.State{Plan: plan}, tt.of, tt.name)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("FindComponent(%q, %q) is %q, %v; want %q", tt.of, tt.name, got, err, tt.want)
			}
		})
	}
	if _, err := FindComponent(&state.State{}, "", "octavia"); err == nil {
		t.Error("a lab without OpenStack has its components")
	}
}

func TestUpstreamManifest(t *testing.T) {
	plan, err := network.NewPlan(0, []string{"central"}, OpenStack)
	if err != nil {
		t.Fatal(err)
	}
	in := &inside{state: &state.State{Plan: plan}, cloud: &openstack.OpenStack{}}
	path := filepath.Join(t.TempDir(), "openstack.yaml")
	write(t, path, "spec:\n  openstack:\n    pollInterval: 30s\n    addressing: Member\n  allowedCIDRs: [10.0.0.0/8]\n")
	b, err := in.upstreamManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "spec:\n  openstack:\n    pollInterval: 5s\n    addressing: Member\n  allowedCIDRs: [10.251.0.0/24]\n"; string(b) != want {
		t.Errorf("the manifest is\n%s\nwant\n%s", b, want)
	}
	write(t, path, "spec: {}\n")
	if _, err := in.upstreamManifest(path); err == nil || !strings.Contains(err.Error(), "has no") {
		t.Errorf("a manifest without what is to be replaced: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
