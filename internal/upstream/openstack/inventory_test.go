package openstack

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// at is a time of the server's clock, so many seconds after noon.
func at(s float64) time.Time {
	return time.Date(2026, 1, 1, 12, 0, 0, int(s*1e9), time.UTC)
}

func stamp(s float64) string { return at(s).Format("2006-01-02T15:04:05") }

// seen is a reading of a load balancer in the namespace team, with one listener on a port.
func seen(status, updated string, port int32, clock time.Time) *reading {
	lb := loadBalancer{ID: "a", Enabled: true, Provisioning: status, Operating: "ONLINE", CreatedAt: stamp(-60), UpdatedAt: updated}
	return &reading{
		tree: &tree{loadBalancer: lb, place: place{namespace: "team", own: map[string]string{AnnotationProject: "d/p"}}, listeners: []listener{{ID: "l", Protocol: "HTTP", Port: port, Enabled: true}},
			pools: []*poolTree{{pool: pool{ID: "p", Enabled: true}}}},
		clock: clock, after: lb,
	}
}

func changedReading(r *reading, f func(*reading)) *reading {
	f(r)
	return r
}

// published is the port of the load balancer's Service: 0 where it is only named, -1 where there is none.
func (e *entry) published() int32 {
	for _, s := range e.services {
		switch {
		case s.Name != "lb-a":
		case s.Unsettled:
			return 0
		default:
			return s.Ports[0].Number
		}
	}
	return -1
}

func TestSettle(t *testing.T) {
	type want struct {
		port           int32
		settled, final bool
	}
	for name, steps := range map[string][]struct {
		reading *reading
		want
	}{
		"at rest":           {{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}}},
		"never changed":     {{seen("ACTIVE", "", 1, at(60)), want{1, true, true}}},
		"in error":          {{seen("ERROR", stamp(0), 1, at(60)), want{1, true, true}}},
		"changed just now":  {{seen("ACTIVE", stamp(0), 1, at(1.9)), want{0, false, false}}},
		"changed 2 s ago":   {{seen("ACTIVE", stamp(0), 1, at(2)), want{1, true, true}}},
		"of the future":     {{seen("ACTIVE", stamp(60), 1, at(0)), want{0, false, false}}},
		"being created":     {{seen("PENDING_CREATE", "", 1, at(60)), want{0, false, false}}},
		"of unknown status": {{seen("", stamp(0), 1, at(60)), want{0, false, false}}},
		"two readings agree": {
			{seen("ACTIVE", stamp(0), 1, at(0.2)), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, at(0.8)), want{1, true, false}},
			{seen("ACTIVE", stamp(0), 1, at(1.5)), want{1, true, false}},
			{seen("ACTIVE", stamp(0), 1, at(3)), want{1, true, true}},
		},
		"two changes in a second": {
			{seen("ACTIVE", stamp(0), 1, at(0.2)), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, at(0.4)), want{1, true, false}},
			{seen("ACTIVE", stamp(0), 2, at(0.9)), want{1, false, false}},
			{seen("ACTIVE", stamp(0), 2, at(1.4)), want{2, true, false}},
			{seen("ACTIVE", stamp(0), 2, at(2.4)), want{2, true, true}},
		},
		"change after change": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{seen("ACTIVE", stamp(60), 2, at(60.1)), want{1, false, false}},
			{seen("ACTIVE", stamp(60), 3, at(60.2)), want{1, false, false}},
			{seen("ACTIVE", stamp(61), 4, at(61.2)), want{1, false, false}},
			{seen("ACTIVE", stamp(61), 4, at(64)), want{4, true, true}},
		},
		"pending after rest": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{seen("PENDING_UPDATE", stamp(60), 2, at(60.1)), want{1, false, false}},
			{seen("PENDING_UPDATE", stamp(60), 2, at(90)), want{1, false, false}},
			{seen("ACTIVE", stamp(90), 2, at(93)), want{2, true, true}},
		},
		"being deleted": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{seen("PENDING_DELETE", stamp(60), 1, at(90)), want{1, false, false}},
		},
		"changed while it was read": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{changedReading(seen("ACTIVE", stamp(0), 2, at(70)), func(r *reading) { r.after.UpdatedAt = stamp(70) }), want{1, false, false}},
			{changedReading(seen("ACTIVE", stamp(0), 2, at(70)), func(r *reading) { r.after.Provisioning = "PENDING_UPDATE" }), want{1, false, false}},
			{changedReading(seen("ACTIVE", stamp(0), 2, at(70)), func(r *reading) { r.after = loadBalancer{} }), want{1, false, false}},
		},
		"from error to active while it was read": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{changedReading(seen("ERROR", stamp(0), 2, at(70)), func(r *reading) { r.after.Provisioning = "ACTIVE" }), want{1, false, false}},
		},
		"torn": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{changedReading(seen("ACTIVE", stamp(0), 2, at(70)), func(r *reading) { r.torn = true }), want{1, false, false}},
			{changedReading(seen("ACTIVE", stamp(0), 2, at(70)), func(r *reading) { r.torn = true }), want{1, false, false}},
		},
		"torn readings don't agree": {
			{changedReading(seen("ACTIVE", stamp(0), 1, at(1)), func(r *reading) { r.torn = true }), want{0, false, false}},
			{changedReading(seen("ACTIVE", stamp(0), 1, at(1)), func(r *reading) { r.torn = true }), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, at(1.5)), want{0, false, false}},
		},
		"pending readings don't agree": {
			{seen("PENDING_UPDATE", stamp(0), 1, at(0.2)), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, at(0.4)), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, at(0.6)), want{1, true, false}},
		},
		"no clock": {
			{seen("ACTIVE", stamp(0), 1, time.Time{}), want{0, false, false}},
			{seen("ACTIVE", stamp(0), 1, time.Time{}), want{1, true, false}},
		},
		"times that can't be read": {
			{changedReading(seen("ACTIVE", "x", 1, at(60)), func(r *reading) { r.tree.CreatedAt = "y" }), want{0, false, false}},
			{changedReading(seen("ACTIVE", "x", 1, at(60)), func(r *reading) { r.tree.CreatedAt = "y" }), want{1, true, false}},
		},
		"another namespace": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{changedReading(seen("PENDING_UPDATE", stamp(0), 1, at(60)), func(r *reading) { r.tree.place.namespace = "renamed" }), want{0, false, false}},
			{changedReading(seen("ACTIVE", stamp(0), 1, at(60)), func(r *reading) { r.tree.place.namespace = "renamed" }), want{1, true, true}},
		},
		"disabled": {
			{seen("ACTIVE", stamp(0), 1, at(60)), want{1, true, true}},
			{changedReading(seen("ACTIVE", stamp(60), 1, at(63)), func(r *reading) { r.tree.Enabled = false }), want{-1, true, true}},
			{changedReading(seen("PENDING_UPDATE", stamp(66), 1, at(66)), func(r *reading) { r.tree.Enabled = false }), want{-1, false, false}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var e *entry
			for i, step := range steps {
				e = step.reading.settle(e, v1alpha1.AddressingMember, at(float64(i)), time.Hour)
				if got := (want{e.published(), e.settled, e.final}); got != step.want {
					t.Fatalf("step %d: got %+v, want %+v", i, got, step.want)
				}
				if key := e.services; len(key) > 0 && key[0].Namespace != step.reading.tree.place.namespace {
					t.Errorf("step %d: key %v", i, key[0].Key)
				}
			}
		})
	}
}

// What is named, so that the central cluster's objects stay, is the load balancer's Service and those that pools may have.
func TestNamed(t *testing.T) {
	e := seen("PENDING_CREATE", "", 1, at(0)).settle(nil, v1alpha1.AddressingMember, at(0), time.Hour)
	if len(e.services) != 2 || e.services[0].Name != "lb-a" || e.services[1].Name != "pool-p" || !e.services[0].Unsettled || !e.services[1].Unsettled {
		t.Errorf("got %s", text(e.services))
	}
}

func TestUnsettledIsTold(t *testing.T) {
	for name, first := range map[string]*entry{
		"with a state before": seen("ACTIVE", stamp(0), 1, at(60)).settle(nil, v1alpha1.AddressingMember, at(0), time.Hour),
		"without":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			e := first
			told := func() (messages []string) {
				for _, s := range e.services {
					for _, r := range s.Refusals {
						messages = append(messages, string(r.Reason)+" "+r.Message)
					}
				}
				return messages
			}
			for s := 0.0; s < 200; s += 20 {
				e = seen("PENDING_UPDATE", stamp(60), 2, at(100+s)).settle(e, v1alpha1.AddressingMember, at(s), time.Hour)
				if got := told(); (len(got) == 1 && strings.HasPrefix(got[0], "Unsettled ") && strings.Contains(got[0], "PENDING_UPDATE")) != (s >= 60) {
					t.Errorf("after %v s: %q", s, got)
				}
			}
			if first != nil && len(first.services[0].Refusals) > 0 {
				t.Error("an inventory was changed")
			}
			e = seen("ACTIVE", stamp(200), 2, at(300)).settle(e, v1alpha1.AddressingMember, at(201), time.Hour)
			if len(told()) > 0 || e.published() != 2 {
				t.Errorf("once it is settled: %s", text(e.services))
			}
			e = seen("PENDING_UPDATE", stamp(300), 2, at(400)).settle(e, v1alpha1.AddressingMember, at(300), time.Hour)
			if len(told()) > 0 {
				t.Errorf("told at once: %s", text(e.services))
			}
		})
	}
}

// Services that are told of are others': those of an inventory don't change.
func TestToldChangesNothing(t *testing.T) {
	s := &mirror.Service{Key: mirror.Key{Namespace: "team", Name: "lb-a"}, Refusals: make([]mirror.Refusal, 1, 8)}
	l := &tree{loadBalancer: loadBalancer{ID: "a"}, place: place{namespace: "team"}}
	if got := l.told([]*mirror.Service{s}); len(got[0].Refusals) != 2 || len(s.Refusals) != 1 || s.Refusals[:2][1].Reason != "" {
		t.Errorf("got %s, of %s", text(got), text(s.Refusals[:2]))
	}
}

func TestCurrent(t *testing.T) {
	now := at(0)
	fresh := func() (*entry, *tree) {
		r := seen("ACTIVE", stamp(-60), 1, at(0))
		r.tree.pools[0].Operating = "ONLINE"
		r.tree.Tags = []string{"a=b"}
		e := r.settle(&entry{}, v1alpha1.AddressingMember, now, time.Hour)
		again := *r.tree
		again.Tags = []string{"a=b"}
		p := *r.tree.pools[0]
		again.pools = []*poolTree{&p}
		return e, &again
	}
	for name, tc := range map[string]struct {
		change func(*entry, *tree)
		after  time.Duration
		want   bool
	}{
		"unchanged":          {func(*entry, *tree) {}, 0, true},
		"just before":        {func(*entry, *tree) {}, time.Hour - 1, true},
		"after the interval": {func(*entry, *tree) {}, time.Hour, false},
		"changed":            {func(_ *entry, l *tree) { l.UpdatedAt = stamp(-30) }, 0, false},
		"operating status":   {func(_ *entry, l *tree) { l.Operating = "DEGRADED" }, 0, false},
		"name":               {func(_ *entry, l *tree) { l.Name = "x" }, 0, false},
		"tags":               {func(_ *entry, l *tree) { l.Tags = nil }, 0, false},
		"place":              {func(_ *entry, l *tree) { l.place.namespace = "x" }, 0, false},
		"addresses":          {func(_ *entry, l *tree) { l.addresses = []string{"10.0.0.1"} }, 0, false},
		"pending":            {func(e *entry, l *tree) { l.Provisioning = "PENDING_UPDATE"; e.seen = l.seen() }, 0, false},
		"in error":           {func(e *entry, l *tree) { l.Provisioning = "ERROR"; e.seen = l.seen() }, 0, false},
		"a pool's health":    {func(_ *entry, l *tree) { l.pools[0].Operating = "NO_MONITOR" }, 0, false},
		"a pool more":        {func(_ *entry, l *tree) { l.pools = append(l.pools, &poolTree{}) }, 0, false},
		"a degraded pool":    {func(e *entry, l *tree) { l.pools[0].Operating = "DEGRADED"; e.seen = l.seen() }, 0, false},
		"a failed pool":      {func(e *entry, l *tree) { l.pools[0].Operating = "ERROR"; e.seen = l.seen() }, 0, false},
		"unsettled":          {func(e *entry, _ *tree) { e.settled = false }, 0, false},
		"not final":          {func(e *entry, _ *tree) { e.final = false }, 0, false},
	} {
		e, l := fresh()
		tc.change(e, l)
		if got := e.current(l, now.Add(tc.after)); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	if _, l := fresh(); (*entry)(nil).current(l, now) {
		t.Error("what was never read is current")
	}
}

// Members of load balancers that were found together aren't all read again at the same time.
func TestRereadsAreSpread(t *testing.T) {
	times := map[time.Duration]int{}
	for i := range 1000 {
		r := seen("ACTIVE", "", 1, at(0))
		r.tree.ID = fmt.Sprint("lb", i)
		e := r.settle(nil, v1alpha1.AddressingMember, at(0), 10*time.Minute)
		if d := e.reread.Sub(at(0)); d < 0 || d > 10*time.Minute {
			t.Fatalf("after %v", d)
		}
		times[e.reread.Sub(at(0)).Truncate(time.Minute)]++
	}
	for d, n := range times {
		if n > 200 {
			t.Errorf("%d after %v", n, d)
		}
	}
}

func service(name string, endpoints int, l map[string]string) *mirror.Service {
	s := &mirror.Service{Key: mirror.Key{Namespace: "team", Name: name}, Labels: l, OwnLabels: map[string]string{LabelLoadBalancer: "web", LabelPool: ""}}
	for range endpoints {
		s.Slices = append(s.Slices, mirror.Slice{Endpoints: []mirror.Endpoint{{Addresses: []string{"10.0.0.1"}}}})
	}
	return s
}

func entriesOf(services ...*mirror.Service) map[string]*entry {
	entries := map[string]*entry{}
	for _, s := range services {
		entries[s.Name] = &entry{services: []*mirror.Service{s}}
	}
	return entries
}

func TestNewInventory(t *testing.T) {
	unsettled := service("d", 0, nil)
	unsettled.Unsettled = true
	entries := entriesOf(service("a", 1, map[string]string{"tier": "web"}), service("b", 2, map[string]string{"tier": ""}), service("c", 1, nil), unsettled)
	most := upstream.Limits{Services: 4, Endpoints: 4, Bytes: 1 << 20}
	for selector, want := range map[string][]string{
		"":                           {"a", "b", "c", "d"},
		"tier=web":                   {"a", "d"},
		"tier":                       {"a", "b", "d"},
		"!tier":                      {"c", "d"},
		"tier!=web":                  {"b", "c", "d"},
		LabelLoadBalancer + "=web":   {"a", "b", "c", "d"},
		LabelLoadBalancer + "=other": {"d"},
		LabelPool:                    {"d"},
	} {
		parsed, err := labels.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := newInventory(entries, most, Selection{Selection: mirror.Selection{Labels: parsed}})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, k := range inv.keys() {
			names = append(names, k.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q: got %v", selector, names)
		}
	}
	for what, limits := range map[string]upstream.Limits{
		"services": {Services: 3, Endpoints: 4, Bytes: 1 << 20}, "endpoints": {Services: 4, Endpoints: 3, Bytes: 1 << 20}, "bytes of services": {Services: 4, Endpoints: 4, Bytes: 2000},
	} {
		if _, err := newInventory(entries, limits, Selection{}); err == nil || !strings.HasSuffix(err.Error(), " "+what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// Two load balancers that both claim a pool, as Octavia has none, don't take turns.
func TestNewInventoryDoesntDependOnChance(t *testing.T) {
	first, second := service("pool-p", 1, nil), service("pool-p", 2, nil)
	for range 50 {
		inv, err := newInventory(map[string]*entry{"a": {services: []*mirror.Service{first}}, "b": {services: []*mirror.Service{second}}}, upstream.DefaultLimits(), Selection{})
		if err != nil || inv.services[first.Key] != second {
			t.Fatalf("got %s, error %v", text(inv.services), err)
		}
	}
}

func TestChangedKeys(t *testing.T) {
	make := func(services ...*mirror.Service) *inventory {
		inv, err := newInventory(entriesOf(services...), upstream.DefaultLimits(), Selection{})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	same := service("a", 1, nil)
	old := make(same, service("b", 1, nil), service("c", 1, nil), service("e", 1, nil))
	keys := make(same, service("b", 1, nil), service("c", 2, nil), service("d", 1, nil)).changed(old)
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"c", "d", "e"}) {
		t.Errorf("got %v", keys)
	}
}

func TestDue(t *testing.T) {
	for unsettled, want := range map[int]time.Duration{0: 30, 1: 1, 2: 2, 3: 4, 5: 16, 6: 30, 100: 30} {
		if got := due(30*time.Second, unsettled); got != want*time.Second {
			t.Errorf("%d: %v", unsettled, got)
		}
	}
}
