package openstack

import (
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

func TestIdentityOf(t *testing.T) {
	for name, tc := range map[string]struct{ octavia, domain, want string }{
		"of a path":   {"https://cloud.example.com/load-balancer/v2.0/lbaas/", "default", "https://cloud.example.com/load-balancer domain default"},
		"of a port":   {"https://Cloud.example.com:9876/v2.0/lbaas/", "default", "https://cloud.example.com:9876 domain default"},
		"no domain":   {"https://cloud.example.com/v2.0/lbaas/", "", "https://cloud.example.com domain "},
		"unprintable": {"https://cloud.example.com/a\u00e4 b/v2.0/lbaas/", "d\n\u00e4", "https://cloud.example.com/a%C3%A4%20b domain d%0A%C3%A4"},
	} {
		if got := identityOf(tc.octavia, tc.domain); got != tc.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
	long := func(end string) string {
		return identityOf("https://cloud.example.com/"+strings.Repeat("a", 200)+"/v2.0/lbaas/", end)
	}
	if got := long("one"); len(got) != maxIdentity || got == long("two") || got != long("one") {
		t.Errorf("long ones: %q and %q", got, long("two"))
	}
}

// The identity is the cloud's, whatever the token, and comes with the inventory.
func TestIdentity(t *testing.T) {
	c := startCloud(t, small)
	fresh := New(options(t, c))
	if got := fresh.Identity(); got != "" {
		t.Errorf("before anything was read it is %q", got)
	}
	s, r := run(t, options(t, c))
	r.WaitFor(t, upstreamtest.Complete)
	want := c.URL() + "/load-balancer domain default"
	if got := s.Identity(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.RevokeTokens()
	r.WaitFor(t, upstreamtest.Complete)
	r.WaitFor(t, upstreamtest.Complete)
	if got := r.Seen(); s.Identity() != want || len(got.Changed) > 0 {
		t.Errorf("with another token it is %q, changed %v", s.Identity(), got.Changed)
	}
}

// updates is an Observer that keeps the identity before and after each Update.
type updates struct {
	upstream.Observer
	source *Source
	seen   []string
}

func (u *updates) Update(_ upstream.Urgency, change func() []mirror.Key) {
	u.seen = append(u.seen, u.source.Identity())
	change()
	u.seen = append(u.seen, u.source.Identity())
}

// Another cloud behind the same name is reported as a change, though all Services are equal.
func TestIdentityChanges(t *testing.T) {
	c := startCloud(t, small)
	c.Change(func(s *openstacktest.State) { s.Remove(openstacktest.ID("lb", 0)) }) // the domain's, which shows on its Service
	s := New(options(t, c))
	u := &updates{source: s}
	cycle := func() {
		s.session.logout()
		found, err := s.cycle(t.Context(), s.inventory.Load())
		if err != nil {
			t.Fatal(err)
		}
		s.replace(found, u)
	}
	cycle()
	cycle()
	c.Change(func(s *openstacktest.State) { s.Projects[0].Domain = "other" })
	cycle()
	if len(u.seen) != 2 || !strings.HasSuffix(u.seen[0], " domain default") || !strings.HasSuffix(u.seen[1], " domain other") {
		t.Errorf("updates %q", u.seen)
	}
}
