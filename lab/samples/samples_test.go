package samples

import (
	"net/netip"
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

func TestShops(t *testing.T) {
	shops := Shops(netip.MustParsePrefix("10.251.0.0/24"))
	if len(shops) != len(Teams()) {
		t.Fatalf("%d shops", len(shops))
	}
	second := shops[1]
	if second.Team != "team-b" || second.VIP.At.String() != "10.251.0.20:80" || second.Members[1].At.String() != "10.251.0.22:8080" {
		t.Errorf("the second shop is %+v", second)
	}
	second.ID = "0123"
	b, err := Routes("os-1", []Shop{second})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fqdn: shop.team-b.example.com", "name: os-1-lb-0123, port: 80"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}
