package openstack

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
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

// hourly is the pace of a source that polls and looks after members' health each hour.
var hourly = pace{time.Hour, time.Hour}

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
		port                int32
		settled, conclusive bool
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
				e = step.reading.settle(e, v1alpha1.AddressingMember, at(float64(i)), hourly)
				if got := (want{e.published(), e.settled, e.conclusive}); got != step.want {
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
func TestPlaceholders(t *testing.T) {
	e := seen("PENDING_CREATE", "", 1, at(0)).settle(nil, v1alpha1.AddressingMember, at(0), hourly)
	if len(e.services) != 2 || e.services[0].Name != "lb-a" || e.services[1].Name != "pool-p" || !e.services[0].Unsettled || !e.services[1].Unsettled {
		t.Errorf("got %s", text(e.services))
	}
}

func TestUnsettledNotice(t *testing.T) {
	for name, first := range map[string]*entry{
		"with a state before": seen("ACTIVE", stamp(0), 1, at(60)).settle(nil, v1alpha1.AddressingMember, at(0), hourly),
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
				e = seen("PENDING_UPDATE", stamp(60), 2, at(100+s)).settle(e, v1alpha1.AddressingMember, at(s), hourly)
				if got := told(); (len(got) == 1 && strings.HasPrefix(got[0], "Unsettled ") && strings.Contains(got[0], "PENDING_UPDATE")) != (s >= 60) {
					t.Errorf("after %v s: %q", s, got)
				}
			}
			if first != nil && len(first.services[0].Refusals) > 0 {
				t.Error("an inventory was changed")
			}
			e = seen("ACTIVE", stamp(200), 2, at(300)).settle(e, v1alpha1.AddressingMember, at(201), hourly)
			if len(told()) > 0 || e.published() != 2 {
				t.Errorf("once it is settled: %s", text(e.services))
			}
			e = seen("PENDING_UPDATE", stamp(300), 2, at(400)).settle(e, v1alpha1.AddressingMember, at(300), hourly)
			if len(told()) > 0 {
				t.Errorf("told at once: %s", text(e.services))
			}
		})
	}
}

// The services of an inventory don't change when a copy gets a notice.
func TestUnsettledNoticeChangesNothing(t *testing.T) {
	s := &mirror.Service{Key: mirror.Key{Namespace: "team", Name: "lb-a"}, Refusals: make([]mirror.Refusal, 1, 8)}
	l := &tree{loadBalancer: loadBalancer{ID: "a"}, place: place{namespace: "team"}}
	if got := l.withUnsettledNotice([]*mirror.Service{s}); len(got[0].Refusals) != 2 || len(s.Refusals) != 1 || s.Refusals[:2][1].Reason != "" {
		t.Errorf("got %s, of %s", text(got), text(s.Refusals[:2]))
	}
}

func TestCurrent(t *testing.T) {
	now := at(0)
	fresh := func() (*entry, *tree) {
		r := seen("ACTIVE", stamp(-60), 1, at(0))
		r.tree.pools[0].Operating = "ONLINE"
		r.tree.Tags = []string{"a=b"}
		e := r.settle(&entry{}, v1alpha1.AddressingMember, now, hourly)
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
		"pending":            {func(_ *entry, l *tree) { l.Provisioning = "PENDING_UPDATE" }, 0, false},
		"in error":           {func(_ *entry, l *tree) { l.Provisioning = "ERROR" }, 0, false},
		"a pool's health":    {func(_ *entry, l *tree) { l.pools[0].Operating = "NO_MONITOR" }, 0, false},
		"a pool more":        {func(_ *entry, l *tree) { l.pools = append(l.pools, &poolTree{}) }, 0, false},
		"due":                {func(e *entry, _ *tree) { e.due = now }, 0, false},
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
		e := r.settle(nil, v1alpha1.AddressingMember, at(0), pace{time.Second, 10 * time.Minute})
		if d := e.due.Sub(at(0)); d < 0 || d > 10*time.Minute {
			t.Fatalf("after %v", d)
		}
		times[e.due.Sub(at(0)).Truncate(time.Minute)]++
	}
	for d, n := range times {
		if n > 200 {
			t.Errorf("%d after %v", n, d)
		}
	}
}

// When a load balancer is read again that looks as it did.
func TestDue(t *testing.T) {
	ofMember := func(change func(*member)) func(*reading) {
		return func(r *reading) { r.tree.pools[0].members = []member{upWith(1, change)} }
	}
	down := func(m *member) { m.Operating = "ERROR" }
	for name, tc := range map[string]struct {
		reading *reading
		change  func(*reading)
		poll    time.Duration
		after   time.Duration // of the trouble
		want    time.Duration // from the last reading
	}{
		"at rest":                       {change: ofMember(func(*member) {}), want: 3 * time.Hour},
		"not conclusive":                {reading: seen("ACTIVE", stamp(0), 1, at(1)), change: ofMember(func(*member) {}), want: 0},
		"a member is down":              {change: ofMember(down), want: 0},
		"a member is down since long":   {change: ofMember(down), after: time.Hour, want: 45 * time.Second},
		"… and polled often":            {change: ofMember(down), poll: time.Second, after: time.Hour, want: 3500 * time.Millisecond},
		"… and polled seldom":           {change: ofMember(down), poll: 3 * time.Minute, after: time.Hour, want: 0},
		"a pool is degraded":            {change: func(r *reading) { r.tree.pools[0].Operating, r.tree.pools[0].members = "DEGRADED", []member{up(1)} }, want: 0},
		"a pool is degraded since long": {change: func(r *reading) { r.tree.pools[0].Operating, r.tree.pools[0].members = "DEGRADED", []member{up(1)} }, after: time.Hour, want: 45 * time.Second},
		"a pool is down, unread":        {change: func(r *reading) { r.tree.pools[0].Operating = "ERROR" }, want: 3 * time.Hour},
		"in error":                      {reading: seen("ERROR", stamp(0), 1, at(60)), want: 0},
		"in error since long":           {reading: seen("ERROR", stamp(0), 1, at(60)), after: time.Hour, want: 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.reading == nil {
				tc.reading = seen("ACTIVE", stamp(0), 1, at(60))
			}
			if tc.change != nil {
				tc.change(tc.reading)
			}
			if tc.poll == 0 {
				tc.poll = 30 * time.Second
			}
			p := pace{tc.poll, 3 * time.Hour}
			e := tc.reading.settle(nil, v1alpha1.AddressingMember, at(0), p)
			for since := time.Duration(0); since <= tc.after; since += 10 * time.Minute {
				e = tc.reading.settle(e, v1alpha1.AddressingMember, at(0).Add(since), p)
			}
			if got := e.due.Sub(at(0).Add(tc.after)); got != tc.want {
				t.Errorf("after %v, want %v", got, tc.want)
			}
		})
	}
}

// What changes of a load balancer in trouble makes its trouble new.
func TestTroubleIsNew(t *testing.T) {
	read := func(updated float64, members ...member) *reading {
		r := seen("ACTIVE", stamp(updated), 1, at(updated+3600))
		r.tree.listeners[0].DefaultPool, r.tree.pools[0].listened, r.tree.pools[0].members = "p", true, members
		return r
	}
	down := upWith(1, func(m *member) { m.Operating = "ERROR" })
	for name, tc := range map[string]struct {
		next *reading
		want bool
	}{
		"nothing":                   {read(0, down), false},
		"the load balancer":         {read(60, down), true},
		"another member":            {read(0, down, upWith(2, func(m *member) { m.Operating = "OFFLINE" })), true},
		"a member drains meanwhile": {read(0, upWith(1, func(m *member) { m.Operating = "DRAINING" })), true},
	} {
		p := pace{30 * time.Second, time.Hour}
		e := read(0, down).settle(nil, v1alpha1.AddressingMember, at(0), p)
		for minute := range 20 {
			e = read(0, down).settle(e, v1alpha1.AddressingMember, at(60*float64(minute)), p)
		}
		if got := tc.next.settle(e, v1alpha1.AddressingMember, at(3600), p); got.due.Equal(at(3600)) != tc.want {
			t.Errorf("%s: read again after %v", name, got.due.Sub(at(3600)))
		}
	}
}

func TestPause(t *testing.T) {
	s := New(Options{Config: &Config{}, PollInterval: 30 * time.Second})
	unsettled := func(due ...time.Duration) *inventory {
		inv := &inventory{entries: map[string]*entry{"settled": {settled: true}}}
		for i, d := range due {
			inv.entries[fmt.Sprint(i)] = &entry{due: time.Now().Add(d)}
		}
		return inv
	}
	for name, tc := range map[string]struct {
		found *inventory
		took  time.Duration
		want  time.Duration
	}{
		"all at rest":      {unsettled(), time.Second, 30 * time.Second},
		"the first is due": {unsettled(time.Minute, 2*time.Second, 8*time.Second), 0, 2 * time.Second},
		"all due later":    {unsettled(time.Minute), 0, 30 * time.Second},
		"past":             {unsettled(-time.Minute), 0, 0},
		"a slow cloud":     {unsettled(time.Second), 5 * time.Second, 10 * time.Second},
	} {
		if got := s.pause(tc.found, tc.took).Round(100 * time.Millisecond); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Changes without end don't have the cloud read without end.
	s = New(Options{Config: &Config{}, PollInterval: 30 * time.Second})
	var pauses []time.Duration
	for range 10 {
		pauses = append(pauses, s.pause(unsettled(time.Second), 0).Round(time.Second))
	}
	if pauses[0] != time.Second || pauses[4] != time.Second || pauses[9] < 20*time.Second {
		t.Errorf("pauses %v", pauses)
	}
}
