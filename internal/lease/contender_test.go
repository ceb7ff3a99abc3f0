package lease

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

const patience = 10 * time.Second

// short are times of which tests can see the end.
var short = Times{Duration: time.Second, Renew: 600 * time.Millisecond, Retry: 100 * time.Millisecond}

// replica is one process that competes for Leases.
type replica struct {
	t        *testing.T
	identity string
	client   kubernetes.Interface
	spread   *Spread
	times    Times
	clock    clock.PassiveClock
}

func newReplica(t *testing.T, client kubernetes.Interface, identity string) *replica {
	return &replica{t: t, identity: identity, client: client, spread: NewSpread(), times: short}
}

// competitor is a Contender that runs, and what it was told.
type competitor struct {
	*Contender
	won  chan context.Context
	lost chan struct{}
	// finish has Lost return, if it blocks.
	finish func()
	cancel context.CancelFunc
	done   chan struct{}
}

// compete competes for an upstream's Lease until the test ends. If blocking, Lost waits for finish to be closed.
func (r *replica) compete(upstream string, blocking bool) *competitor {
	r.t.Helper()
	c := &competitor{won: make(chan context.Context, 100), lost: make(chan struct{}, 100), done: make(chan struct{})}
	finished, finish := context.WithCancel(context.Background())
	c.finish = finish
	if !blocking {
		finish()
	}
	var err error
	c.Contender, err = New(Options{
		Name: upstream, Namespace: "gimbal-discovery", Identity: r.identity,
		Client: r.client.CoordinationV1(), Times: r.times, Spread: r.spread, Clock: r.clock,
		Logger: slog.New(slog.NewTextHandler(r.t.Output(), nil)),
		Won:    func(ctx context.Context) { c.won <- ctx },
		Lost: func() {
			c.lost <- struct{}{}
			<-finished.Done()
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() { defer close(c.done); c.Run(ctx) }()
	r.t.Cleanup(func() { finish(); cancel(); <-c.done })
	return c
}

// within returns what arrives on a channel, or fails.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
		panic("unreachable")
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); !is(); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func TestFreeLeaseIsWonAndRenewed(t *testing.T) {
	s, client := newServer(t)
	r := newReplica(t, client, "a")
	c := r.compete("us-east", false)
	work := within(t, "winning", c.won)
	if !c.Leads() || !c.Decided() {
		t.Errorf("leads %t, decided %t after winning", c.Leads(), c.Decided())
	}
	if holder, err := Holder(t.Context(), client, "gimbal-discovery", "us-east", time.Now()); err != nil || holder != "a" {
		t.Errorf("holder %q, error %v", holder, err)
	}
	won := s.lastVersion()
	eventually(t, "renewing for longer than the Lease lasts", func() bool { return s.lastVersion() > won+12 })
	if !c.Leads() || work.Err() != nil || len(c.lost) > 0 {
		t.Error("the Lease was lost although it was renewed")
	}
}

func (s *server) lastVersion() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func TestOtherHoldersLeaseIsWonWhenItExpires(t *testing.T) {
	s, client := newServer(t)
	s.take("us-east", "b", 2*time.Second)
	c := newReplica(t, client, "a").compete("us-east", false)
	eventually(t, "seeing that the Lease is another's", c.Decided)
	if c.Leads() || len(c.won) > 0 {
		t.Error("leads with another's Lease")
	}
	within(t, "winning what expired", c.won)
}

func TestWorkEndsWhenAnotherHoldsTheLease(t *testing.T) {
	s, client := newServer(t)
	c := newReplica(t, client, "a").compete("us-east", false)
	work := within(t, "winning", c.won)
	s.take("us-east", "b", time.Hour)
	within(t, "losing", c.lost)
	if work.Err() == nil || c.Leads() {
		t.Errorf("after losing: work's error %v, leads %t", work.Err(), c.Leads())
	}
	c.cancel()
	within(t, "ending", c.done)
	if got := s.holder("us-east"); got != "b" {
		t.Errorf("holder %q: another's Lease was given back", got)
	}
}

func TestWorkEndsWhenTheLeaseCannotBeRenewed(t *testing.T) {
	s, client := newServer(t)
	c := newReplica(t, client, "a").compete("us-east", false)
	work := within(t, "winning", c.won)
	s.inject(unavailable)
	within(t, "losing", c.lost)
	if work.Err() == nil || c.Leads() {
		t.Errorf("after losing: work's error %v, leads %t", work.Err(), c.Leads())
	}
	s.inject(nil)
	within(t, "winning again", c.won)
	eventually(t, "leading again", c.Leads)
}

// A lost Lease isn't competed for again before the work under it has ended.
func TestWorkUnderALostLeaseIsWaitedFor(t *testing.T) {
	s, client := newServer(t)
	c := newReplica(t, client, "a").compete("us-east", true)
	within(t, "winning", c.won)
	var requests atomic.Int32
	s.inject(unavailable)
	within(t, "losing", c.lost)
	s.inject(func(http.ResponseWriter, *http.Request) bool { requests.Add(1); return false })
	select {
	case <-c.won:
		t.Error("won again while the work before hadn't ended")
	case <-time.After(3 * short.Retry):
	}
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests for the Lease while the work under it goes on", n)
	}
	c.finish()
	within(t, "winning again", c.won)
}

func TestOrderlyEndGivesTheLeaseBackAfterTheWork(t *testing.T) {
	s, client := newServer(t)
	c := newReplica(t, client, "a").compete("us-east", true)
	work := within(t, "winning", c.won)
	c.cancel()
	within(t, "losing", c.lost)
	if work.Err() == nil || c.Leads() {
		t.Errorf("at the end: work's error %v, leads %t", work.Err(), c.Leads())
	}
	before := s.lastVersion()
	eventually(t, "renewing while the work ends", func() bool { return s.lastVersion() > before+12 })
	if got := s.holder("us-east"); got != "a" {
		t.Errorf("holder %q while the work goes on, want a", got)
	}
	c.finish()
	within(t, "ending", c.done)
	if got := s.holder("us-east"); got != "" {
		t.Errorf("holder %q after an orderly end", got)
	}
	b := newReplica(t, client, "b").compete("us-east", false)
	within(t, "winning what was given back", b.won)
}

func TestEndIsBoundedWhenTheServerHangs(t *testing.T) {
	for name, leading := range map[string]bool{"leading": true, "competing": false} {
		t.Run(name, func(t *testing.T) {
			s, client := newServer(t)
			if !leading {
				s.inject(hang)
			}
			c := newReplica(t, client, "a").compete("us-east", false)
			if leading {
				within(t, "winning", c.won)
				s.inject(hang)
			}
			c.cancel()
			select {
			case <-c.done:
			case <-time.After(short.Renew + 3*time.Second):
				t.Fatal("the end waits for a server that hangs")
			}
		})
	}
}

// A renewal whose answer didn't come may have been made: the Lease is given back all the same.
func TestUnansweredWriteIsGivenBack(t *testing.T) {
	s, client := newServer(t)
	var once atomic.Bool
	written := make(chan struct{})
	s.inject(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || once.Swap(true) {
			return false
		}
		s.take("us-east", "a", time.Hour)
		close(written)
		<-r.Context().Done()
		return true
	})
	c := newReplica(t, client, "a").compete("us-east", false)
	within(t, "writing the Lease", written)
	c.cancel()
	within(t, "ending", c.done)
	if got := s.holder("us-east"); got != "" {
		t.Errorf("holder %q after the end", got)
	}
	if len(c.won) > 0 {
		t.Error("won at the end")
	}
}

// A process that was frozen, or whose machine slept, doesn't know yet that it lost the Lease.
func TestFrozenReplicaDoesNotLead(t *testing.T) {
	s, client := newServer(t)
	r := newReplica(t, client, "a")
	now := clocktesting.NewFakePassiveClock(time.Now())
	r.clock = now
	c := r.compete("us-east", false)
	within(t, "winning", c.won)
	if !c.Leads() {
		t.Fatal("doesn't lead after winning")
	}
	renewals := make(chan chan struct{}) // each one waits for what it is sent
	s.inject(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case c := <-renewals:
			<-c
		case <-r.Context().Done():
		}
		return false
	})
	defer s.inject(nil)
	now.SetTime(now.Now().Add(time.Minute))
	if c.Leads() {
		t.Error("leads a minute after the last renewal")
	}
	s.inject(nil)
	open := make(chan struct{})
	close(open)
	select { // the renewal that was held back, if one was
	case renewals <- open:
	case <-time.After(2 * short.Retry):
	}
	eventually(t, "leading after the next renewal", c.Leads)
}

func TestLeasesSpreadOverReplicas(t *testing.T) {
	const upstreams = 6
	_, client := newServer(t)
	leads := map[string]func() int{}
	for _, identity := range []string{"a", "b"} {
		r := newReplica(t, client, identity)
		r.times = TimesFor(15 * time.Second)
		r.times.Retry = 100 * time.Millisecond
		var all []*competitor
		for i := range upstreams {
			all = append(all, r.compete(fmt.Sprint(i), false))
		}
		leads[identity] = func() (n int) {
			for _, c := range all {
				if c.Leads() {
					n++
				}
			}
			return n
		}
	}
	eventually(t, "all upstreams are led", func() bool { return leads["a"]()+leads["b"]() == upstreams })
	if a, b := leads["a"](), leads["b"](); a < 2 || b < 2 {
		t.Errorf("two replicas that start together share %d upstreams as %d and %d", upstreams, a, b)
	}
}

func TestTimesThatCannotBeUsed(t *testing.T) {
	_, client := newServer(t)
	_, err := New(Options{
		Name: "us-east", Namespace: "gimbal-discovery", Identity: "a", Client: client.CoordinationV1(),
		Times: Times{Duration: time.Second, Renew: 2 * time.Second, Retry: time.Second}, Spread: NewSpread(),
	})
	if err == nil {
		t.Error("a renewal after the end of the Lease is accepted")
	}
}

func TestHolder(t *testing.T) {
	s, client := newServer(t)
	holder := func(now time.Time) string {
		t.Helper()
		got, err := Holder(t.Context(), client, "gimbal-discovery", "us-east", now)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := holder(time.Now()); got != "" {
		t.Errorf("holder %q of a Lease that isn't there", got)
	}
	s.take("us-east", "a", 15*time.Second)
	if got := holder(time.Now()); got != "a" {
		t.Errorf("holder %q, want a", got)
	}
	if got := holder(time.Now().Add(time.Minute)); got != "" {
		t.Errorf("holder %q of a Lease that has expired", got)
	}
	s.inject(unavailable)
	if _, err := Holder(t.Context(), client, "gimbal-discovery", "us-east", time.Now()); err == nil {
		t.Error("no error where the Lease can't be read")
	}
}

func TestDelete(t *testing.T) {
	s, client := newServer(t)
	s.take("us-east", "a", 15*time.Second)
	for range 2 { // a second time there is nothing to delete
		if err := Delete(t.Context(), client, "gimbal-discovery", "us-east"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.holder("us-east"); got != "" {
		t.Errorf("holder %q of a Lease that was deleted", got)
	}
	s.inject(unavailable)
	if err := Delete(t.Context(), client, "gimbal-discovery", "us-east"); err == nil {
		t.Error("no error where the Lease can't be deleted")
	}
}
