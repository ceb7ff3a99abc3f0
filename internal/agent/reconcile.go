package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/mirror"
)

// errRefused says that the central cluster refused some of a key's objects; nothing but
// time or someone's hand mends it.
var errRefused = errors.New("refused by the central cluster")

// failure is why the central objects of a key aren't as they should be.
type failure struct {
	refused bool // by the central cluster; else the write is tried again soon
	message string
}

// reconcile brings the central objects of one key to what the upstream has.
func (a *Agent) reconcile(ctx context.Context, key mirror.Key, live bool) error {
	d := a.decide(key)
	a.setWaiting(key, d.Action == mirror.Wait)
	result := a.writer.Apply(ctx, d.Changes, central.ApplyOptions{
		Careful:  a.config.Past.NamesTaken[key] || a.refusals.Has(key, mirror.ReasonNameTaken),
		Rehearse: !a.hasSettled() && !live && !a.isLive(key), // what has just changed is to be written
	})
	a.carriedOut(key, d, result)
	switch {
	case result.Err != nil:
		if !errors.Is(result.Err, central.ErrBehind) && !errors.Is(result.Err, central.ErrNotLeading) {
			a.fail(key, result.Err)
		}
		return result.Err
	case len(result.Refused) > 0:
		refused := a.refusedBy(key, result.Refused)
		a.setRefusals(key, append(d.Refusals, refused))
		a.setFailure(key, &failure{refused: true, message: refused.Message})
		return errRefused
	}
	a.setFailure(key, nil)
	if d.Judged {
		a.setRefusals(key, d.Refusals)
	}
	return nil
}

// decide says what is to be done about a key. The workers start when the upstream is known
// or has expired, so that one which has said nothing yet changes nothing.
func (a *Agent) decide(key mirror.Key) mirror.Decision {
	a.deciding.RLock()
	defer a.deciding.RUnlock()
	var said *mirror.Service
	if a.contact.known {
		said, _ = a.config.Source.Service(key)
	}
	return mirror.Decide(key, said, a.view.Objects(key), mirror.World{
		Rules:        a.rules,
		Namespace:    a.config.Namespaces.Has(key.Namespace),
		Expired:      a.contact.expired,
		OtherCluster: a.otherCluster(),
	}, a.guards)
}

// carriedOut tells that something was written, be it in part.
func (a *Agent) carriedOut(key mirror.Key, d mirror.Decision, r central.Result) {
	if len(d.Changes) == 0 {
		return
	}
	if d.Deletes && d.Action == mirror.Apply && r.Err == nil && len(r.Refused) == 0 {
		a.config.Logger.Info("deleted a Service that the upstream no longer has, or that isn't mirrored any more", "key", key.String())
	}
	a.config.StatusChanged()
}

// refusedBy returns what is to be said of objects that the central cluster refused.
func (a *Agent) refusedBy(key mirror.Key, refused []central.Refused) mirror.Refusal {
	for _, r := range refused {
		if errors.Is(r.Err, central.ErrTaken) {
			return mirror.NameTaken(a.config.Upstream, key)
		}
	}
	more := ""
	if n := len(refused) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more of its objects)", n)
	}
	return mirror.Refusal{Key: key, Reason: mirror.ReasonRejected, Message: fmt.Sprintf(
		"the central API server refused it: %.400s%s; mend what refuses it, it is tried again every %s", refused[0].Err, more, refusedRetry)}
}

func (a *Agent) setWaiting(key mirror.Key, waiting bool) {
	a.mu.Lock()
	was := a.waiting[key]
	if waiting {
		a.waiting[key] = true
	} else {
		delete(a.waiting, key)
	}
	a.mu.Unlock()
	if was != waiting {
		a.config.StatusChanged()
	}
}

// fail records that a write failed which is tried again soon.
func (a *Agent) fail(key mirror.Key, err error) {
	if a.setFailure(key, &failure{message: err.Error()}) {
		a.config.Logger.Warn("writing to the central cluster failed; it is tried again", "key", key.String(), "error", err)
	}
}

// setFailure records why a key's objects aren't as they should be, or with nil that they
// are. It reports whether the first failure came.
func (a *Agent) setFailure(key mirror.Key, f *failure) (first bool) {
	a.mu.Lock()
	before, was := a.failures[key]
	none := len(a.failures) == 0
	if f != nil {
		a.failures[key] = *f
	} else {
		delete(a.failures, key)
	}
	a.mu.Unlock()
	if was != (f != nil) || f != nil && before.refused != f.refused {
		a.config.StatusChanged()
	}
	return none && f != nil
}

func (a *Agent) setRefusals(key mirror.Key, now []mirror.Refusal) {
	if a.refusals.Set(key, now) {
		a.config.StatusChanged()
	}
}

// tell hands on refusals that are news: those of the first pass together at its end, others
// when they have stood for a while.
func (a *Agent) tell() {
	a.mu.Lock()
	settled, first := a.settled, a.first != nil
	if settled {
		a.first = nil
	}
	a.mu.Unlock()
	if !settled {
		return
	}
	news := a.refusals.News(first)
	if len(news) == 0 && !first {
		return
	}
	told := make([]Refused, len(news))
	for i, r := range news {
		told[i].Refusal = r
		if s := a.view.Objects(r.Key).Service; s != nil {
			told[i].Service = s.UID
		}
	}
	a.config.Refused(told)
}
