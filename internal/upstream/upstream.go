// Package upstream is the contract between the discovery engine and the kinds of
// upstream cluster it reads.
package upstream

import (
	"context"
	"fmt"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// Source keeps a complete inventory of one upstream's Services.
//
// Law: whole or nothing. Before the first complete view a Source has no
// inventory; after it, the inventory stands as it was last complete until a newer
// complete view or a change of one key replaces it. Losing contact changes nothing.
type Source interface {
	// Run fills the inventory and keeps it up to date until ctx ends. It reports
	// through Observer and retries for ever; it returns only ctx's error.
	Run(ctx context.Context, o Observer) error

	// Service returns the upstream Service of a key, translated into the domain's
	// type, or false where the upstream has none or the spec doesn't select it. It is called only after
	// the first Complete. The caller must not change what it gets.
	Service(key mirror.Key) (*mirror.Service, bool)

	// Keys returns the keys of every Service that the upstream has and the spec selects.
	Keys() []mirror.Key

	// Identity says which cluster the inventory is of, whatever its address and
	// credentials, in at most 128 printable characters; "" where that can't be told. It
	// changes with the inventory only: before the first Complete, and within Update.
	Identity() string
}

// Urgency is how soon changes are to be seen in the central cluster.
type Urgency int

// The urgencies.
const (
	Listed Urgency = iota // a complete listing found them: after live ones
	Live                  // they have just happened
)

// Observer is told what happens to a Source's inventory after the first complete view.
// Its methods return at once and are safe for concurrent use.
type Observer interface {
	// Update has the inventory changed: it calls change once, before it returns, which
	// makes the change and returns the keys whose Service may differ from what it was.
	// Nothing is decided about any key while change runs, so that a listing which lost half of
	// the Services is judged as a whole. change must not call the Observer.
	Update(u Urgency, change func() []mirror.Key)
	// Complete says that the inventory is complete and was confirmed to be so just now.
	Complete()
	// Polled tells what a complete reading of an upstream that is polled has cost.
	Polled(Cycle)
	// Failed says that the inventory can't be confirmed at present.
	Failed(err *Error)
}

// Cycle is one complete reading of an upstream that is polled.
type Cycle struct {
	Duration time.Duration
	Requests int
}

// Reason is why an upstream can't be read, in one word: the reason of the condition Reachable.
type Reason string

// The reasons.
const (
	ReasonUnreachable        Reason = "Unreachable"        // no connection
	ReasonTimeout            Reason = "Timeout"            // connected, no answer in time
	ReasonUnknownAuthority   Reason = "UnknownAuthority"   // the server's certificate isn't signed by the CA that the Secret names
	ReasonInvalidCertificate Reason = "InvalidCertificate" // expired, or for another host name
	ReasonUnauthorized       Reason = "Unauthorized"       // 401
	ReasonForbidden          Reason = "Forbidden"          // 403
	ReasonTooLarge           Reason = "TooLarge"           // more objects than the budget
	ReasonServerError        Reason = "ServerError"        // an answer that can't be used
)

// Error is why an upstream can't be read. Its message names the object, the reason and the way out.
type Error struct {
	Reason Reason
	// Hint is the way out.
	Hint string
	Err  error
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v: %s", e.Err, e.Hint)
}

func (e *Error) Unwrap() error { return e.Err }
