package mirror

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"
)

// judged returns guards that have judged what is due for web, beside others of its upstream.
func judged(said *Service, current Objects, r Rules, holdLosses bool) *Guards {
	g := NewGuards(GuardLimit{MaxPercent: 0, MinServices: 2}, holdLosses, InForce{})
	g.Note(web().Key, said, Holding{Service: current.Service != nil, Ready: ready(current)}, r, time.Unix(0, 0))
	g.Judge(1, time.Unix(0, 0))
	return g
}

// guarded is an upstream of so many Services that none of them may go.
func (g *Guards) guarded(r Rules, said *Service, current Objects) *Guards {
	g.Note(web().Key, said, Holding{Service: current.Service != nil, Ready: ready(current)}, r, time.Unix(0, 0))
	g.Judge(10, time.Unix(0, 0))
	return g
}

func TestDecide(t *testing.T) {
	there, _ := east.Desired(web())
	current := applied(there)
	dead := webWith(func(s *Service) {
		for i := range s.Slices[0].Endpoints {
			s.Slices[0].Endpoints[i].Ready = false
		}
	})
	held := func(r Rules, said *Service, o Objects) *Guards {
		return NewGuards(GuardLimit{}, true, InForce{}).guarded(r, said, o)
	}
	reported := func(r Rules, said *Service, o Objects) *Guards {
		return NewGuards(GuardLimit{}, false, InForce{}).guarded(r, said, o)
	}
	free := func(r Rules, said *Service, o Objects) *Guards { return judged(said, o, r, true) }
	ready := World{Rules: east, Namespace: true}
	for name, tc := range map[string]struct {
		said    *Service
		current Objects
		world   World
		guards  func(Rules, *Service, Objects) *Guards
		want    Action
		changes string
		says    Reason
		judged  bool
	}{
		"new":                     {web(), Objects{}, ready, free, Apply, "create Service create web-abc", "", true},
		"unchanged":               {web(), current, ready, free, Keep, "", "", true},
		"no namespace":            {web(), Objects{}, World{Rules: east}, free, Wait, "", "", true},
		"gone":                    {nil, current, ready, free, Apply, "delete Service delete web-abc", "", true},
		"gone, nothing there":     {nil, Objects{}, ready, free, Keep, "", "", true},
		"gone, held":              {nil, current, ready, held, Hold, "", "", true},
		"refused":                 {webWith(func(s *Service) { s.Refused = true; s.Refusals = []Refusal{{s.Key, "ExternalName", "x"}} }), current, ready, free, Apply, "delete Service delete web-abc", "ExternalName", true},
		"refused, held":           {webWith(func(s *Service) { s.Refused = true; s.Refusals = []Refusal{{s.Key, "ExternalName", "x"}} }), current, ready, held, Hold, "", "ExternalName", true},
		"refused, no namespace":   {webWith(func(s *Service) { s.Refused = true; s.Refusals = []Refusal{{s.Key, "ExternalName", "x"}} }), Objects{}, World{Rules: east}, free, Keep, "", "ExternalName", true},
		"past a bound":            {webWith(func(s *Service) { s.Ports = make([]Port, maxPorts+1) }), current, ready, held, Keep, "", ReasonTooManyPorts, true},
		"unsettled":               {&Service{Key: web().Key, Unsettled: true, Refusals: []Refusal{{web().Key, "Unsettled", "x"}}}, current, ready, held, Keep, "", "Unsettled", true},
		"expired":                 {nil, current, World{Rules: east, Namespace: true, Expired: true}, held, Apply, "update web-abc", "", false},
		"expired, nothing there":  {nil, Objects{}, World{Rules: east, Expired: true}, held, Keep, "", "", false},
		"another cluster":         {nil, current, World{Rules: east, Namespace: true, OtherCluster: true}, free, Keep, "", "", false},
		"another cluster's":       {dead, current, World{Rules: east, Namespace: true, OtherCluster: true}, free, Keep, "", "", false},
		"endpoints lost":          {dead, current, ready, reported, Apply, "update web-abc", "", true},
		"endpoints lost, held":    {dead, current, ready, held, Hold, "", "", true},
		"held with other changes": {webWith(func(s *Service) { s.Slices = nil; s.Labels["new"] = "x" }), current, ready, held, Hold, "update Service", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.current.copied()
			g := tc.guards(tc.world.Rules, tc.said, tc.current)
			d := Decide(web().Key, tc.said, tc.current, tc.world, g)
			if d.Action != tc.want || short(d.Changes) != tc.changes || d.Judged != tc.judged {
				t.Errorf("%s %q, judged %t; want %s %q, %t", d.Action, short(d.Changes), d.Judged, tc.want, tc.changes, tc.judged)
			}
			if (tc.says == "") != (len(d.Refusals) == 0) || tc.says != "" && d.Refusals[0].Reason != tc.says {
				t.Errorf("refusals %v", d.Refusals)
			}
			if summary(Plan(before, tc.current)) != "" {
				t.Error("the central objects were changed")
			}
		})
	}
}

// short names what changes are, without Gimbal's prefix of names.
func short(changes []Change) string {
	var all []string
	for _, c := range changes {
		name := "Service"
		if c.Slice != nil {
			name = strings.TrimPrefix(c.Slice.Name, "us-east-")
		}
		all = append(all, string(c.Verb)+" "+name)
	}
	return strings.Join(all, " ")
}

// Seven of ten Services vanish and are held, two come back, contact is lost and the
// upstream expires, and it is back: the five stay held.
func TestExpiryKeepsAHold(t *testing.T) {
	all, now := keys(10), time.Unix(0, 0)
	g := NewGuards(GuardLimit{MaxPercent: 30, MinServices: 10}, false, InForce{})
	note := func(gone []Key) {
		for _, k := range all {
			var said *Service
			if !slices.Contains(gone, k) {
				said = webWith(func(s *Service) { s.Key = k })
			}
			g.Note(k, said, Holding{Service: true, Ready: 2}, east, now)
		}
		g.Judge(10, now)
	}
	note(all[:7])
	note(all[:5])
	there, _ := east.Desired(webWith(func(s *Service) { s.Key = all[0] }))
	current := applied(there)
	for _, expired := range []bool{true, false} {
		d := Decide(all[0], nil, current, World{Rules: east, Namespace: true, Expired: expired}, g)
		if want := map[bool]Action{true: Apply, false: Hold}[expired]; d.Action != want {
			t.Errorf("expired %t: %s, want %s", expired, d.Action, want)
		}
		note(all[:5])
		g.Judge(10, now)
		if g.Deletions.Held() != 5 {
			t.Errorf("expired %t: %d are held", expired, g.Deletions.Held())
		}
	}
}

func TestExpiredIsNeitherReadyNorServing(t *testing.T) {
	there, _ := east.Desired(web())
	for _, es := range Expired(applied(there)).Slices {
		for _, e := range es.Endpoints {
			if ptr.Deref(e.Conditions.Ready, true) || ptr.Deref(e.Conditions.Serving, true) {
				t.Errorf("%v: %+v", e.Addresses, e.Conditions)
			}
		}
	}
}

// A policy of the central cluster adds and changes labels on the way in.
func TestAnswers(t *testing.T) {
	desired, _ := east.Desired(web())
	current := applied(desired)
	current.Service.Labels["cost-center"], current.Service.Labels["app"] = "4711", "other"
	current.Slices[0].Labels["cost-center"] = "4711"
	if len(Plan(desired, current)) != 2 {
		t.Fatal("the policy's labels make no changes")
	}
	current.Answers = Answers{}
	if a, differs := AnswerTo(desired.Service, current.Service); differs {
		current.Answers[current.Service.UID] = a
	}
	if a, differs := AnswerTo(withOwner(desired.Slices[0], current.Service.UID), current.Slices[0]); differs {
		current.Answers[current.Slices[0].UID] = a
	}
	if changes := Plan(desired, current); len(current.Answers) != 2 || len(changes) > 0 {
		t.Errorf("%d answers, then %s", len(current.Answers), summary(changes))
	}
	other, _ := east.Desired(webWith(func(s *Service) { s.Labels["app"] = "web-2"; s.Slices[0].Endpoints[0].Ready = false }))
	if changes := Plan(other, current); short(changes) != "update Service update web-abc" {
		t.Errorf("what is desired has changed, and the plan is %q", short(changes))
	}
	current.Service.ResourceVersion += "0"
	if changes := Plan(desired, current); short(changes) != "update Service" {
		t.Errorf("someone has changed the Service, and the plan is %q", short(changes))
	}
	if _, differs := AnswerTo(desired.Service, applied(desired).Service); differs {
		t.Error("an answer that is as it was sent differs")
	}
}
