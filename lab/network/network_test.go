package network

import (
	"net/netip"
	"testing"
)

func TestPlan(t *testing.T) {
	p, err := NewPlan(3, []string{"central", "us-east", "us-west"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Host.String(); got != "10.89.3.1/24" {
		t.Errorf("the host's address is %s", got)
	}
	east := p.Clusters[1]
	want := Cluster{
		Name: "us-east", Node: netip.MustParseAddr("10.89.3.20"),
		Pods: netip.MustParsePrefix("10.242.0.0/16"), NodePods: netip.MustParsePrefix("10.242.0.0/24"),
		Services: netip.MustParsePrefix("10.97.0.0/16"), DNS: netip.MustParseAddr("10.97.0.10"),
	}
	if east != want {
		t.Errorf("us-east is %+v, want %+v", east, want)
	}
	if len(p.HostLink) > 15 {
		t.Errorf("interface name %q is longer than Linux allows", p.HostLink)
	}
}

func TestPlanKeepsRangesApart(t *testing.T) {
	names := make([]string, MaxClusters)
	for i := range names {
		names[i] = string(rune('a' + i))
	}
	p, err := NewPlan(199, names, "os-1")
	if err != nil {
		t.Fatal(err)
	}
	all := []netip.Prefix{p.Lab.Masked(), p.Members.Range}
	for _, c := range p.Clusters {
		if !p.Lab.Contains(c.Node) {
			t.Errorf("node %s is outside %s", c.Node, p.Lab)
		}
		all = append(all, c.Pods, c.Services)
	}
	if !p.Lab.Contains(p.Members.Gateway) || p.Members.Gateway == p.Clusters[MaxClusters-1].Node {
		t.Errorf("the members are reached by %s", p.Members.Gateway)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Overlaps(b) {
				t.Errorf("%s overlaps %s", a, b)
			}
		}
	}
	if _, err := NewPlan(0, append(names, "k"), ""); err == nil {
		t.Error("too many clusters are accepted")
	}
}
