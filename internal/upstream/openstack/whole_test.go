package openstack

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

// world makes a cloud of fuzz bytes: any number of objects in any state, but of distinct names.
func world(b *fuzzBytes) openstacktest.State {
	s := openstacktest.Generate(openstacktest.Size{Projects: 1 + b.n(3), LoadBalancers: b.n(4), Pools: b.n(3), Members: b.n(4)})
	for i, lb := range s.LoadBalancers {
		lb.Created = time.Now().Add(-time.Hour)
		lb.Provisioning, lb.Operating = b.pick("", "", "", "ERROR", "PENDING_UPDATE"), b.pick("", "DEGRADED")
		lb.Disabled = b.n(8) == 7
		lb.Tags = []string{b.pick("a=b", "c"), "x=" + fmt.Sprint(b.n(3))}
		for _, l := range lb.Listeners {
			l.Protocol, l.Disabled = b.pick("HTTP", "TCP", "UDP", "HTTPS", "PROMETHEUS"), b.n(8) == 7
			if b.n(4) == 3 {
				l.Pool = ""
			}
		}
		for _, p := range lb.Pools {
			p.Protocol, p.Operating, p.Disabled = b.pick("HTTP", "TCP", "PROXY"), b.pick("", "DEGRADED"), b.n(8) == 7
			p.Members = p.Members[:b.n(len(p.Members)+1)]
			for _, m := range p.Members {
				m.Weight, m.Backup, m.Operating, m.Disabled = b.n(3), b.n(4) == 3, b.pick("ONLINE", "ERROR", "NO_MONITOR"), b.n(8) == 7
			}
		}
		if b.n(4) == 3 {
			lb.Touch(lb.Created.Add(time.Duration(i) * time.Minute))
		}
	}
	return s
}

// corruption spoils one answer: it is cut, or something else in its place, or has parts left out or twice.
type corruption struct {
	at   int // which request of the cycle
	how  int
	part int // which byte or object
	// silent says that the answer may look as good as a whole one.
	silent bool
}

const (
	cuts, statuses, swaps, empties, repeats, drops, unlinks, hows = 0, 1, 2, 3, 4, 5, 6, 7
)

// fault returns a Fault that spoils the answer to one request, and what tells whether it did.
func (k *corruption) fault(c *openstacktest.Cloud) (f openstacktest.Fault, done func() bool) {
	var n, spoiled atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		if int(n.Add(1)) != k.at+1 || r.Method == http.MethodPost {
			return false
		}
		spoiled.Store(1)
		switch k.how {
		case cuts:
			recorded := httptest.NewRecorder()
			c.Answer(recorded, r)
			body := recorded.Body.Bytes()
			w.WriteHeader(recorded.Code)
			_, _ = w.Write(body[:k.part*len(body)/65536])
		case statuses:
			says([]int{400, 401, 403, 404, 409, 429, 500, 502, 503, 504, 204, 302}[k.part%12], "{}")(w, r)
		case swaps:
			recorded := httptest.NewRecorder()
			other := r.Clone(r.Context())
			other.URL.Path = strings.NewReplacer("loadbalancers", "pools", "listeners", "loadbalancers", "pools", "listeners").Replace(r.URL.Path)
			c.Answer(recorded, other)
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(recorded.Body.Bytes())
		case empties:
			says(http.StatusOK, []string{"", "{}", "null", "[]", "<html></html>", `{"loadbalancers":null,"listeners":null,"pools":null,"members":null,"projects":null}`}[k.part%6])(w, r)
		default:
			k.silent = k.how == drops || k.how == unlinks
			edit(c, w, r, k.editList)
		}
		return true
	}, func() bool { return spoiled.Load() > 0 }
}

func (k *corruption) editList(list string, answer map[string]any) {
	objects, _ := answer[list].([]any)
	switch {
	case k.how == unlinks:
		delete(answer, list+"_links")
	case len(objects) == 0:
	case k.how == repeats:
		answer[list] = append(objects, objects[k.part%len(objects)])
	case k.how == drops:
		answer[list] = slices.Delete(slices.Clone(objects), k.part%len(objects), k.part%len(objects)+1)
	}
}

// content is what a Service says, without what is only told of it.
func content(s *mirror.Service) string {
	c := *s
	c.Refusals = nil
	b, _ := json.Marshal(&c)
	return string(b)
}

// FuzzWhole spoils one answer of a cycle, and checks that the cycle fails, or that every
// Service is as it truly is, as it was before, or unsettled: that none is lost, and that
// none is published that lacks a part.
//
// A listing that leaves out load balancers or projects of which nothing was known before
// can't be told from a whole one: then too what is published is whole.
func FuzzWhole(f *testing.F) {
	for how := range byte(hows) {
		for at := range byte(12) {
			f.Add([]byte("\x02\x02\x02\x03\x00\x01\x02\x00\x00\x00\x00\x03\x00\x00\x00\x00\x03\x03"), at, how, uint16(at)*5000+77, 1+at%3, at%2 == 0)
		}
	}
	c := startCloud(f, openstacktest.Size{})
	o := options(f, c)
	f.Fuzz(func(t *testing.T, state []byte, at, how byte, part uint16, pageLimit byte, known bool) {
		checkWhole(t, c, o, state, at, how, part, pageLimit, known)
	})
}

// TestWhole does what FuzzWhole does with some cases by chance, always the same.
func TestWhole(t *testing.T) {
	c := startCloud(t, openstacktest.Size{})
	o := options(t, c)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		state := make([]byte, 200)
		for i := range state {
			state[i] = byte(chance.IntN(256))
		}
		checkWhole(t, c, o, state, byte(chance.IntN(24)), byte(chance.IntN(hows)), uint16(chance.IntN(65536)), byte(chance.IntN(5)), chance.IntN(3) > 0)
	}
}

func checkWhole(t *testing.T, c *openstacktest.Cloud, o Options, state []byte, at, how byte, part uint16, pageLimit byte, known bool) {
	t.Helper()
	b := &fuzzBytes{state}
	first := world(b)
	c.PageLimit = 1 + int(pageLimit)%5
	c.Inject(nil)
	c.Change(func(s *openstacktest.State) { *s = first })
	s := without(o, c)
	before := &inventory{}
	if known {
		before = read(t, s)
		c.Change(func(s *openstacktest.State) { changeWorld(s, b) })
	}
	truth := read(t, without(o, c))
	k := &corruption{at: int(at) % 40, how: int(how) % hows, part: int(part)}
	fault, spoiled := k.fault(c)
	c.Inject(fault)
	found, err := s.cycle(t.Context(), s.inventory.Load())
	if err != nil {
		return
	}
	for key, now := range found.services {
		if was := before.services[key]; now.Unsettled || now.Refused && now.Refusals[0].Reason == ReasonUnknownProject && k.silent {
			continue
		} else if was != nil && content(now) == content(was) {
			continue
		}
		if true := truth.services[key]; true == nil || content(now) != content(true) {
			t.Errorf("%v is published as %s, truly it is %s (spoiled: %t)", key, text(now), text(true), spoiled())
		}
	}
	for key, true := range truth.services {
		if was := before.services[key]; found.services[key] == nil && (was != nil || !k.silent && !true.Unsettled) {
			t.Errorf("%v is lost (spoiled: %t, %+v), it was %s and is %s", key, spoiled(), k, text(was), text(true))
		}
	}
}

// changeWorld changes what was made by world, as Octavia does: with the time of the change.
func changeWorld(s *openstacktest.State, b *fuzzBytes) {
	for _, lb := range slices.Clone(s.LoadBalancers) {
		switch b.n(4) {
		case 1:
			s.Remove(lb.ID)
			continue
		case 2:
			lb.Provisioning = "PENDING_UPDATE"
		case 3:
			lb.Provisioning = ""
		}
		if b.n(2) == 1 {
			continue
		}
		lb.Touch(time.Now().Add(-time.Duration(3+b.n(100)) * time.Second))
		for i, p := range lb.Pools {
			switch b.n(4) {
			case 1:
				p.Members = nil
			case 2:
				p.Members = append(p.Members, &openstacktest.Member{ID: "new-" + p.ID, Address: fmt.Sprint("10.9.9.", i), Port: 80, Weight: 1})
			case 3:
				lb.Listeners[i].Port += 1000
			}
		}
	}
}
