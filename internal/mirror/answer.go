package mirror

import (
	"encoding/json"
	"hash/fnv"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Answer is what the API server made of a write, where that wasn't what was sent: an
// admission policy of the central cluster changes objects on their way in. As long as the
// object is as it was answered, and the same is desired, there is nothing to write.
type Answer struct {
	// Sent is a hash of what was sent, as far as Gimbal owns it.
	Sent uint64
	// ResourceVersion is that of the object as it was answered.
	ResourceVersion string
}

// Answers are those of objects that differ from what was sent, by UID.
type Answers map[types.UID]Answer

// AnswerTo returns the Answer to a write, or false where the object is as it was sent. Both are
// Services, or both EndpointSlices.
func AnswerTo(sent, got metav1.Object) (Answer, bool) {
	switch sent := sent.(type) {
	case *corev1.Service:
		got, ok := got.(*corev1.Service)
		if !ok {
			return Answer{}, false
		}
		if why, _ := serviceDiff(sent, got); len(why) == 0 {
			return Answer{}, false
		}
	case *discoveryv1.EndpointSlice:
		got, ok := got.(*discoveryv1.EndpointSlice)
		if !ok || len(sliceDiff(sent, got, "")) == 0 {
			return Answer{}, false
		}
	default:
		return Answer{}, false
	}
	return Answer{Sent: digest(sent), ResourceVersion: got.GetResourceVersion()}, true
}

// settles reports whether the current object is what the API server makes of the desired one.
func (a Answers) settles(desired, current metav1.Object) bool {
	answer, ok := a[current.GetUID()]
	return ok && answer.ResourceVersion == current.GetResourceVersion() && answer.Sent == digest(desired)
}

// digest returns a hash of what Gimbal owns of an object.
func digest(o metav1.Object) uint64 {
	annotations := maps.Clone(o.GetAnnotations())
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !ownAnnotation(key) })
	owned := []any{o.GetNamespace(), o.GetName(), o.GetLabels(), annotations}
	switch o := o.(type) {
	case *corev1.Service:
		owned = append(owned, o.Spec)
	case *discoveryv1.EndpointSlice:
		owned = append(owned, o.AddressType, o.Ports, o.Endpoints)
	}
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(owned); err != nil {
		panic(err) // a hash doesn't fail, and API objects can always be marshalled
	}
	return h.Sum64()
}
