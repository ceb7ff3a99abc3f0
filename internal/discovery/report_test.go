package discovery

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/client-go/tools/events"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/agent"
	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestNews(t *testing.T) {
	refusals := func(from, to int) (all []agent.Refused, lines []v1alpha1.Refusal) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("web-%02d", i)
			all = append(all, agent.Refused{Refusal: mirror.Refusal{Key: mirror.Key{Namespace: "team", Name: name}, Reason: "ExternalName"}})
			lines = append(lines, v1alpha1.Refusal{Namespace: "team", Service: name, Reason: "ExternalName"})
		}
		return all, lines
	}
	_, listed := refusals(0, 20)
	for name, tc := range map[string]struct {
		now, before, want int
	}{
		"none before":              {3, 0, 3},
		"all listed":               {3, 3, 0},
		"one more":                 {4, 3, 1},
		"as many as are left out":  {25, 25, 0},
		"more than were left out":  {26, 25, 6},
		"fewer than were left out": {24, 25, 4},
	} {
		t.Run(name, func(t *testing.T) {
			now, _ := refusals(0, tc.now)
			old := &v1alpha1.UpstreamClusterStatus{Refused: int32(tc.before), Refusals: listed[:min(tc.before, len(listed))]}
			if got := news(now, old); len(got) != tc.want {
				t.Errorf("%d are news, want %d: %v", len(got), tc.want, got)
			}
		})
	}
}

// The API server refuses an event whose note has more than 1,024 bytes.
func TestAnEventOfALongRefusalFits(t *testing.T) {
	for name, message := range map[string]string{
		"ascii":      strings.Repeat("x", 1000),
		"multi-byte": strings.Repeat("é", 500) + "…",
	} {
		t.Run(name, func(t *testing.T) {
			recorder := events.NewFakeRecorder(1)
			c := &controller{recorder: recorder, namespaces: central.NewNamespaces()}
			uc := &v1alpha1.UpstreamCluster{}
			uc.Name = strings.Repeat("u", 40)
			c.refusedEvents(uc)([]agent.Refused{{Refusal: mirror.Refusal{Reason: "AddressDenied", Message: message}}})
			note, ok := strings.CutPrefix(<-recorder.Events, "Warning AddressDenied ")
			if !ok || len(note) > 1024 || !utf8.ValidString(note) {
				t.Errorf("%d bytes: %q", len(note), note)
			}
		})
	}
}
