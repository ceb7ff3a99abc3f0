package discovery

import (
	"testing"

	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestRefusals(t *testing.T) {
	r := newRefusals()
	taken := mirror.Refusal{Key: web, Reason: mirror.ReasonNameTaken, Message: "m"}
	fqdn := mirror.Refusal{Key: web, Reason: mirror.ReasonFQDNSlice, Message: "m"}
	other := mirror.Refusal{Key: mirror.Key{Namespace: "team-0", Name: "api"}, Reason: mirror.ReasonFQDNSlice, Message: "m"}
	if added, changed := r.Set(web, []mirror.Refusal{taken}); !changed || len(added) != 1 {
		t.Errorf("first: added %v, changed %v", added, changed)
	}
	if added, changed := r.Set(web, []mirror.Refusal{taken}); changed || added != nil {
		t.Errorf("again: added %v, changed %v", added, changed)
	}
	if added, _ := r.Set(web, []mirror.Refusal{taken, fqdn}); len(added) != 1 || added[0] != fqdn {
		t.Errorf("one more: added %v", added)
	}
	if !r.Has(web, mirror.ReasonFQDNSlice) || r.Has(other.Key, mirror.ReasonFQDNSlice) {
		t.Error("Has doesn't tell keys apart")
	}
	r.Set(other.Key, []mirror.Refusal{other})
	if total, first := r.First(2); total != 3 || first[0] != other || first[1] != taken {
		t.Errorf("total %d, first %v", total, first)
	}
	r.Set(web, nil)
	if n := r.Counts(); n[mirror.ReasonNameTaken] != 0 || n[mirror.ReasonFQDNSlice] != 1 {
		t.Errorf("counts %v: a reason that is gone must show as 0", n)
	}
}
