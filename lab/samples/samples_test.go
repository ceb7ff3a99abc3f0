package samples

import (
	"strings"
	"testing"
)

func TestCentralRoutesToEveryUpstream(t *testing.T) {
	b, err := Central([]string{"us-east", "us-west"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fqdn: web.team-a.example.com", "fqdn: api.team-b.example.com", "name: us-east-web", "name: us-west-api"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	if n := strings.Count(string(b), "kind: HTTPProxy"); n != len(Teams())*len(Applications()) {
		t.Errorf("%d routes", n)
	}
}
