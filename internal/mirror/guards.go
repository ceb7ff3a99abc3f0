package mirror

import "time"

// Guards hold deletions and losses of endpoints back. They have been told, and have judged,
// what is due for the key that is decided about.
type Guards struct {
	Deletions *Guard
	Losses    *Losses
}

// InForce is what was in force when an upstream was last served.
type InForce struct {
	// Deletions and Losses say that some were held.
	Deletions, Losses bool
	// LossesRaised says that losses were told.
	LossesRaised bool
}

// NewGuards returns the guards of an upstream that go on with what was in force.
func NewGuards(limit GuardLimit, holdLosses bool, was InForce) *Guards {
	return &Guards{
		Deletions: NewGuard(limit, was.Deletions),
		Losses:    NewLosses(limit, holdLosses, was),
	}
}

// Holding is what of a key the central cluster has, as far as the guards are concerned.
type Holding struct {
	Service bool
	Ready   int // endpoints
}

// Note tells the guards what is due for a key, and what has happened of what was: it has when the
// central cluster shows it, whoever did it.
func (g *Guards) Note(key Key, said *Service, has Holding, r Rules, now time.Time) {
	if !has.Service {
		g.Deletions.Happened(key, now)
		g.Losses.Forget(key)
		return
	}
	g.Deletions.Note(key, said == nil || r.Refuses(said))
	losing := has.Ready > 0 && said != nil && !said.Unsettled && !said.Refused && !r.Publishes(said)
	g.Losses.Note(key, losing, has.Ready > 0, now)
}

// Judge decides about all that has been noted, given the number of central Services.
func (g *Guards) Judge(total int, now time.Time) {
	g.Deletions.Judge(total, now)
	g.Losses.Judge(total, now)
}
