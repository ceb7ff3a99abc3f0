package agent

import (
	"time"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// contact is what is known of the contact with the upstream.
type contact struct {
	known    bool // there has been a complete view since the agent started
	complete bool // the view is complete now
	failure  *upstream.Error
	lastView time.Time
	// since is since when the upstream has been out of contact, for certain; zero while it
	// isn't. An earlier agent's last view doesn't tell: its time in the status may be minutes old.
	since    time.Time
	expired  bool
	other    bool   // another cluster answered at last
	identity string // of the cluster that the central objects are of; "" if that isn't known
	answers  string // the identity that the source has now; "" if it has none
	answered string // the same, or the one that a watch has just seen go
}

func newContact(c Config) contact {
	return contact{lastView: c.Past.LastView, since: c.Past.OutOfContact, identity: c.Past.Identity}
}

// confirmed records that the view is complete.
func (c *contact) confirmed(now time.Time, identity string) {
	c.known, c.complete, c.failure, c.lastView, c.since, c.expired = true, true, nil, now, time.Time{}, false
	if c.identity == "" {
		c.identity = identity
	}
}

// lost records that the view can't be confirmed, and says whether that, or its reason, is new.
func (c *contact) lost(err *upstream.Error, now time.Time) (isNew bool) {
	isNew = c.complete || c.failure == nil || c.failure.Reason != err.Reason
	if c.since.IsZero() {
		c.since = now
		if c.known {
			c.since = c.lastView
		}
	}
	c.complete, c.failure = false, err
	return isNew
}

// expire records that the upstream has been out of contact for too long, if it has, and
// says whether that is new. One that is being listed is in contact, however long that takes.
func (c *contact) expire(after time.Duration, now time.Time) bool {
	if after <= 0 || c.expired || c.complete || c.failure == nil || c.since.IsZero() || now.Sub(c.since) <= after {
		return false
	}
	c.expired = true
	return true
}

// answersAs takes in which identity the source has now, and says whether that is news. One that
// was lost and came anew, with a watch that saw both, is the same cluster's: someone deleted the
// object that it is known by, and the cluster made it again.
func (c *contact) answersAs(identity string, live bool) (news bool) {
	if live && c.known && c.answers == "" && identity != "" && c.answered == c.identity {
		c.identity = identity
	}
	news = c.answers != identity
	c.answers = identity
	if identity != "" || !live {
		c.answered = identity
	}
	return news
}

// differs reports whether an identity is that of another cluster than the central objects are of.
func (c *contact) differs(identity string) bool {
	return c.identity != "" && identity != "" && identity != c.identity
}
