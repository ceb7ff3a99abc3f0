package cluster

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for short, want := range map[string]string{"apiserver": "kube-apiserver", "kube-apiserver": "kube-apiserver", "kubelet": "kubelet", "proxy": "kube-proxy"} {
		if got, err := Find(short); err != nil || got != want {
			t.Errorf("Find(%q) is %q, %v; want %q", short, got, err, want)
		}
	}
	if _, err := Find("etc"); err == nil || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("an unknown component's error names no others: %v", err)
	}
}
