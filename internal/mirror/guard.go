package mirror

// Guard says when so many of an upstream's Services would go at once that an
// operator should confirm it.
type Guard struct {
	// MaxPercent is the share of the Services, from 0 to 100, that may go.
	MaxPercent int
	// MinServices is the number of Services below which an upstream isn't guarded.
	MinServices int
}

// Allows reports whether deletions of an upstream's total Services may go ahead.
func (g Guard) Allows(total, deletions int) bool {
	return deletions <= 0 || total < g.MinServices || deletions*100 <= g.MaxPercent*total
}
