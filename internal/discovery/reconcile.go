package discovery

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// errRetryLater says that the central cluster refused a key's objects; nothing but time or someone's hand mends it.
var errRetryLater = errors.New("refused by the central cluster")

// reconcile brings the central objects of one key to what the upstream has.
func (a *agent) reconcile(ctx context.Context, key mirror.Key) error {
	if refused, unsettled := a.unsettled(key); unsettled {
		a.setRefusals(key, refused)
		return nil
	}
	current := a.central.Objects(key)
	desired, refused, exists := a.decide(key, current)
	waiting := exists && desired.Service != nil && !a.Namespaces.Has(key.Namespace)
	a.setWaiting(key, waiting)
	if waiting {
		a.setRefusals(key, nil)
		return nil
	}
	if desired.Service == nil && current.Service != nil && !a.guard.Admit(key) {
		a.setRefusals(key, refused)
		a.Dirty()
		return nil
	}
	if (desired.Service != nil || current.Service == nil) && a.guard.Withdraw(key) {
		a.Dirty()
	}
	changes := mirror.Plan(desired, current)
	err := a.applier.Apply(ctx, changes, a.Taken[key] || a.refusals.Has(key, mirror.ReasonNameTaken))
	if refusal, ok := refusedBy(key, a.Name, err); ok {
		a.setRefusals(key, append(refused, refusal))
		return errRetryLater
	}
	if err != nil {
		return err
	}
	if desired.Service == nil && current.Service != nil && len(changes) > 0 {
		a.guard.Deleted(key)
		a.Logger.Info("deleted a Service that the upstream no longer has", "key", key.String())
	}
	a.setRefusals(key, refused)
	if len(changes) > 0 {
		a.Dirty()
	}
	return nil
}

// unsettled reports whether the upstream is in the middle of changing a Service, of which
// the central cluster then keeps what it has, and returns what is to be said of that.
func (a *agent) unsettled(key mirror.Key) ([]mirror.Refusal, bool) {
	if a.isExpired() {
		return nil, false
	}
	s, ok := a.Source.Service(key)
	if !ok || !s.Unsettled {
		return nil, false
	}
	return s.Refusals, true
}

func (a *agent) isExpired() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.expired
}

// decide returns what the central cluster should hold for a key, what of it is
// refused, and whether the upstream has the Service.
func (a *agent) decide(key mirror.Key, current mirror.Objects) (mirror.Objects, []mirror.Refusal, bool) {
	if a.isExpired() {
		return mirror.Expired(current), nil, false
	}
	s, ok := a.Source.Service(key)
	if !ok {
		return mirror.Objects{}, nil, false
	}
	desired, refused := a.rules.Load().Desired(s)
	return desired, refused, true
}

// refusedBy turns an answer of the central cluster that a retry at once can't mend into a refusal.
func refusedBy(key mirror.Key, backend string, err error) (mirror.Refusal, bool) {
	name := mirror.ServiceName(backend, key)
	switch {
	case errors.Is(err, errTaken):
		return mirror.Refusal{Key: key, Reason: mirror.ReasonNameTaken, Message: fmt.Sprintf(
			"Service %s/%s, or an EndpointSlice of it, exists in the central cluster and isn't Gimbal's; rename or delete it, or rename the upstream's Service", key.Namespace, name)}, true
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, "NamespaceTerminating"),
		apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return mirror.Refusal{Key: key, Reason: mirror.ReasonRejected, Message: fmt.Sprintf(
			"the central API server refused it: %.400s", err.Error())}, true
	}
	return mirror.Refusal{}, false
}

func (a *agent) setWaiting(key mirror.Key, waiting bool) {
	a.mu.Lock()
	was := a.waiting[key]
	if waiting {
		a.waiting[key] = true
	} else {
		delete(a.waiting, key)
	}
	a.mu.Unlock()
	if was != waiting {
		a.Dirty()
	}
}

func (a *agent) setRefusals(key mirror.Key, now []mirror.Refusal) {
	added, changed := a.refusals.Set(key, now)
	if changed {
		var uid types.UID
		if s := a.central.Objects(key).Service; s != nil {
			uid = s.UID
		}
		news := make([]refused, len(added))
		for i, r := range added {
			news[i] = refused{r, uid}
		}
		a.tell(news)
		a.Dirty()
	}
}
