package mirror

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Verb is what a Change does.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Change is one write to the central cluster.
type Change struct {
	Verb Verb
	// Service or Slice is the object: the other is nil. For Create and Update it is the
	// desired object, for Delete the current one, whose UID and resourceVersion
	// are the preconditions of the deletion.
	//
	// A slice to be updated has the UID and resourceVersion of the current one, which it replaces.
	// The UID of its owner reference is empty where an earlier change of the plan creates
	// the Service: whoever applies the plan then sets it, which changes nothing else.
	Service *corev1.Service
	Slice   *discoveryv1.EndpointSlice
	// Patch is the JSON merge patch (RFC 7386) of an update of a Service. It names the
	// UID and the resourceVersion, so that the API server refuses it if the object is
	// no longer what was read.
	Patch []byte
	// Why says in a few words what differs: "labels", "endpoints: +2 -1". It is empty
	// for objects that are new or no longer wanted.
	Why []string
}

// Plan returns the changes that make the current objects the desired ones, in the order
// in which to make them, and none if nothing differs that Gimbal owns. If nothing is
// desired, all of current that is Gimbal's goes.
//
// Plan never changes a foreign object: one that Owner doesn't give the desired objects'
// identity. If a foreign Service has the desired one's name, there are no changes at
// all, lest endpoints are attached to it. An object that is being deleted is left until it is gone.
//
// The order keeps traffic flowing: the Service first, so that slices can name it as
// their owner; then what new slices need out of their way; new slices, updates, and
// deletions last. When all goes, the Service goes first.
func Plan(desired, current Objects) []Change {
	if desired.Service == nil && len(desired.Slices) == 0 {
		return planRemoval(current)
	}
	id, ok := desired.identity()
	if !ok || current.Service != nil && !id.owns(current.Service) {
		return nil
	}
	var changes []Change
	var uid types.UID
	if desired.Service != nil {
		changes, uid = planService(desired.Service, current.Service, current.Answers)
	}
	return planSlices(changes, id, desired.Slices, current, uid)
}

func planRemoval(current Objects) []Change {
	var changes []Change
	if s := current.Service; s != nil && s.DeletionTimestamp == nil {
		if _, ours := identityOf(s); ours {
			changes = append(changes, Change{Verb: Delete, Service: s})
		}
	}
	for _, es := range sortedByName(current.Slices) {
		if _, ours := identityOf(es); ours && es.DeletionTimestamp == nil {
			changes = append(changes, Change{Verb: Delete, Slice: es})
		}
	}
	return changes
}

// planService returns the changes of a Service, and the UID that it has throughout.
func planService(desired, current *corev1.Service, answers Answers) ([]Change, types.UID) {
	if current == nil {
		return []Change{{Verb: Create, Service: desired}}, ""
	}
	if current.DeletionTimestamp != nil {
		return nil, current.UID
	}
	if replaces(desired, current) {
		why := []string{"clusterIP"}
		return []Change{
			{Verb: Delete, Service: current, Why: why},
			{Verb: Create, Service: desired, Why: why},
		}, ""
	}
	why, patch := serviceDiff(desired, current)
	if len(why) == 0 || answers.settles(desired, current) {
		return nil, current.UID
	}
	return []Change{{Verb: Update, Service: desired, Patch: patch, Why: why}}, current.UID
}

// replaces reports whether the current Service must make way for the desired one: a
// cluster IP can't be changed but on a Service of type ExternalName, which has none.
func replaces(desired, current *corev1.Service) bool {
	return current.Spec.ClusterIP != desired.Spec.ClusterIP && current.Spec.Type != corev1.ServiceTypeExternalName
}

func planSlices(changes []Change, id identity, desired []*discoveryv1.EndpointSlice, objects Objects, uid types.UID) []Change {
	desired, current := sortedByName(desired), sortedByName(objects.Slices)
	var replaced, created, updated, deleted []Change
	for len(desired) > 0 || len(current) > 0 {
		switch order := compareHeads(desired, current); {
		case order < 0:
			created = append(created, Change{Verb: Create, Slice: withOwner(desired[0], uid)})
			desired = desired[1:]
			continue
		case order > 0:
			if cur := current[0]; id.owns(cur) && cur.DeletionTimestamp == nil {
				deleted = append(deleted, Change{Verb: Delete, Slice: cur})
			}
			current = current[1:]
			continue
		}
		want, cur := desired[0], current[0]
		desired, current = desired[1:], current[1:]
		if !id.owns(cur) || cur.DeletionTimestamp != nil {
			continue
		}
		if want.AddressType != cur.AddressType {
			why := []string{"addressType"}
			replaced = append(replaced, Change{Verb: Delete, Slice: cur, Why: why})
			created = append(created, Change{Verb: Create, Slice: withOwner(want, uid), Why: why})
			continue
		}
		if why := sliceDiff(want, cur, uid); len(why) > 0 && !objects.Answers.settles(want, cur) {
			updated = append(updated, Change{Verb: Update, Slice: onto(want, cur, uid), Why: why})
		}
	}
	return slices.Concat(changes, replaced, created, updated, deleted)
}

// compareHeads compares the names of the first slices; an empty list comes last.
func compareHeads(a, b []*discoveryv1.EndpointSlice) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return byName(a[0], b[0])
	}
}

func sortedByName(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	if slices.IsSortedFunc(in, byName) {
		return in
	}
	in = slices.Clone(in)
	slices.SortFunc(in, byName)
	return in
}

// withOwner returns a copy of a desired slice that names its owner's UID, where that is known.
func withOwner(desired *discoveryv1.EndpointSlice, uid types.UID) *discoveryv1.EndpointSlice {
	es := *desired
	es.OwnerReferences = slices.Clone(desired.OwnerReferences)
	for i := range es.OwnerReferences {
		es.OwnerReferences[i].UID = cmp.Or(uid, es.OwnerReferences[i].UID)
	}
	return &es
}

// onto returns the desired slice as it replaces the current one: with its identity, and with
// what others have put on it.
func onto(desired, current *discoveryv1.EndpointSlice, uid types.UID) *discoveryv1.EndpointSlice {
	es := withOwner(desired, uid)
	es.UID, es.ResourceVersion = current.UID, current.ResourceVersion
	es.Finalizers = current.Finalizers
	es.Annotations = maps.Clone(desired.Annotations)
	for key, v := range current.Annotations {
		if !ownAnnotation(key) {
			es.Annotations[key] = v
		}
	}
	return es
}
