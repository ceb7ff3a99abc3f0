package mirror

// Action says in one word what is done about a key.
type Action string

// The actions.
const (
	// Keep leaves the central objects as they are.
	Keep Action = "keep"
	// Wait makes nothing until the central cluster has the namespace.
	Wait Action = "wait"
	// Hold doesn't delete the Service, or doesn't take its last endpoints, until an operator confirms.
	Hold Action = "hold"
	// Apply carries out the Changes.
	Apply Action = "apply"
)

// World is what a decision depends on beside the upstream's word and the central objects.
type World struct {
	Rules
	// Namespace says whether objects can be created in the central namespace.
	Namespace bool
	// Expired says that the upstream has been out of contact for longer than its spec allows.
	Expired bool
	// OtherCluster says that another cluster answers than the one that the central objects are of.
	OtherCluster bool
}

// Decision is what is done about one key, and why.
type Decision struct {
	Action Action
	// Changes are the writes of Apply, and with Hold those that needn't wait.
	Changes []Change
	// Judged says that Refusals are all that is refused of the key now. Else what was
	// refused before still is.
	Judged   bool
	Refusals []Refusal
	// Deletes says that the Service goes, or would go if it weren't held.
	Deletes bool
}

// Decide says what is to be done about a key, given the upstream's word, which is nil where
// it has no such Service, and what the central cluster holds. It changes none of them.
//
// Whatever isn't known for sure changes nothing: an upstream that is in the middle of a
// change, that is another cluster than it was, or that goes past a bound keeps what it had.
func Decide(key Key, said *Service, current Objects, w World, g *Guards) Decision {
	switch {
	case w.OtherCluster:
		return Decision{Action: Keep}
	case w.Expired:
		return change(Plan(Expired(current), current), Decision{})
	case said != nil && said.Unsettled:
		return Decision{Action: Keep, Judged: true, Refusals: said.Refusals}
	case said == nil:
		return remove(key, current, g, nil)
	}
	desired, refused, is := w.desire(said)
	switch is {
	case pastBound:
		return Decision{Action: Keep, Judged: true, Refusals: refused}
	case refusedWhole:
		return remove(key, current, g, refused)
	}
	if !w.Namespace {
		return Decision{Action: Wait, Judged: true}
	}
	d := Decision{Judged: true, Refusals: refused}
	if ready(current) > 0 && ready(desired) == 0 && g.Losses.Holds(key) {
		desired.Slices = current.Slices
		d = change(Plan(desired, current), d)
		d.Action = Hold
		return d
	}
	return change(Plan(desired, current), d)
}

// remove decides about a key for which there should be nothing.
func remove(key Key, current Objects, g *Guards, refused []Refusal) Decision {
	d := Decision{Judged: true, Refusals: refused, Deletes: current.Service != nil}
	if d.Deletes && g.Deletions.Holds(key) {
		d.Action = Hold
		return d
	}
	return change(Plan(Objects{}, current), d)
}

// change makes d one that carries changes out, if there are any.
func change(changes []Change, d Decision) Decision {
	d.Action, d.Changes = Apply, changes
	if len(changes) == 0 {
		d.Action = Keep
	}
	return d
}

// ready counts the ready endpoints of objects, all of which are one Service's.
func ready(o Objects) int {
	n := 0
	for _, es := range o.Slices {
		n += ReadyEndpoints(es.Endpoints)
	}
	return n
}

// verdict is what becomes of a Service as a whole.
type verdict int

const (
	mirrored     verdict = iota
	refusedWhole         // nothing of it may be in the central cluster
	pastBound            // it goes past a bound: what the central cluster has of it stays
)
