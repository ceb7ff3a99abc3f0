package mirror

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// servicePatch is a JSON merge patch of a Service. A null removes what it is the value of.
type servicePatch struct {
	Metadata struct {
		UID             types.UID          `json:"uid"`
		ResourceVersion string             `json:"resourceVersion"`
		Labels          map[string]*string `json:"labels,omitempty"`
		Annotations     map[string]*string `json:"annotations,omitempty"`
	} `json:"metadata"`
	Spec map[string]any `json:"spec,omitempty"`
}

// serviceDiff returns what differs in the fields that Gimbal owns, and the patch that makes it equal.
func serviceDiff(desired, current *corev1.Service) (why []string, patch []byte) {
	var p servicePatch
	spec := map[string]any{}
	if p.Metadata.Labels = mapDiff(desired.Labels, current.Labels, all); p.Metadata.Labels != nil {
		why = append(why, "labels")
	}
	if p.Metadata.Annotations = mapDiff(desired.Annotations, current.Annotations, ownAnnotation); p.Metadata.Annotations != nil {
		why = append(why, "annotations")
	}
	if current.Spec.Type != "" && current.Spec.Type != desired.Spec.Type {
		why = append(why, "type")
		spec["type"], spec["clusterIP"], spec["externalName"] = desired.Spec.Type, desired.Spec.ClusterIP, nil
	}
	if !slices.EqualFunc(desired.Spec.Ports, current.Spec.Ports, servicePortsEqual) {
		why = append(why, "ports")
		spec["ports"] = desired.Spec.Ports
	}
	if !maps.Equal(desired.Spec.Selector, current.Spec.Selector) {
		why = append(why, "selector")
		spec["selector"] = mapDiff(desired.Spec.Selector, current.Spec.Selector, all)
	}
	if len(why) == 0 {
		return nil, nil
	}
	p.Metadata.UID, p.Metadata.ResourceVersion, p.Spec = current.UID, current.ResourceVersion, spec
	patch, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers can always be marshalled
	}
	return why, patch
}

func all(string) bool { return true }

// mapDiff returns the entries to set and, as nil, to remove, among the keys that are
// owned; nil if there are none.
func mapDiff(desired, current map[string]string, owned func(string) bool) map[string]*string {
	var diff map[string]*string
	set := func(key string, v *string) {
		if diff == nil {
			diff = map[string]*string{}
		}
		diff[key] = v
	}
	for key, v := range desired {
		if cur, ok := current[key]; !ok || cur != v {
			set(key, &v)
		}
	}
	for key := range current {
		if _, ok := desired[key]; !ok && owned(key) {
			set(key, nil)
		}
	}
	return diff
}

func servicePortsEqual(a, b corev1.ServicePort) bool {
	return a.Name == b.Name && a.Port == b.Port &&
		protocol(&a.Protocol) == protocol(&b.Protocol) &&
		ptr.Deref(a.AppProtocol, "") == ptr.Deref(b.AppProtocol, "")
}

// protocol returns a port's protocol as the API server defaults it.
func protocol(p *corev1.Protocol) corev1.Protocol {
	if p == nil || *p == "" {
		return corev1.ProtocolTCP
	}
	return *p
}

// sliceDiff returns what differs in the fields that Gimbal owns.
func sliceDiff(desired, current *discoveryv1.EndpointSlice, uid types.UID) (why []string) {
	if !maps.Equal(desired.Labels, current.Labels) {
		why = append(why, "labels")
	}
	if mapDiff(desired.Annotations, current.Annotations, ownAnnotation) != nil {
		why = append(why, "annotations")
	}
	if !ownersEqual(desired.OwnerReferences, current.OwnerReferences, uid) {
		why = append(why, "owner")
	}
	if !slices.EqualFunc(desired.Ports, current.Ports, slicePortsEqual) {
		why = append(why, "ports")
	}
	if !endpointsEqual(desired.Endpoints, current.Endpoints) {
		why = append(why, endpointsDiff(desired.Endpoints, current.Endpoints))
	}
	return why
}

// ownersEqual compares the owners of a slice, whose desired UID is uid where that is known.
func ownersEqual(desired, current []metav1.OwnerReference, uid types.UID) bool {
	return slices.EqualFunc(desired, current, func(d, c metav1.OwnerReference) bool {
		return d.APIVersion == c.APIVersion && d.Kind == c.Kind && d.Name == c.Name && c.UID == cmp.Or(uid, d.UID) &&
			ptr.Deref(d.Controller, false) == ptr.Deref(c.Controller, false) &&
			ptr.Deref(d.BlockOwnerDeletion, false) == ptr.Deref(c.BlockOwnerDeletion, false)
	})
}

func slicePortsEqual(a, b discoveryv1.EndpointPort) bool {
	return ptr.Deref(a.Name, "") == ptr.Deref(b.Name, "") && ptr.Deref(a.Port, 0) == ptr.Deref(b.Port, 0) &&
		protocol(a.Protocol) == protocol(b.Protocol) &&
		ptr.Deref(a.AppProtocol, "") == ptr.Deref(b.AppProtocol, "")
}

func endpointsEqual(a, b []discoveryv1.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !endpointEqual(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func endpointEqual(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) &&
		ptr.Equal(a.Conditions.Ready, b.Conditions.Ready) &&
		ptr.Equal(a.Conditions.Serving, b.Conditions.Serving) &&
		ptr.Equal(a.Conditions.Terminating, b.Conditions.Terminating) &&
		ptr.Deref(a.Hostname, "") == ptr.Deref(b.Hostname, "") &&
		ptr.Deref(a.Zone, "") == ptr.Deref(b.Zone, "")
}

// endpointsDiff counts the endpoints that come, go, and differ, by first address.
func endpointsDiff(desired, current []discoveryv1.Endpoint) string {
	before := make(map[string]*discoveryv1.Endpoint, len(current))
	for i := range current {
		before[first(&current[i])] = &current[i]
	}
	var added, changed int
	for i := range desired {
		d := &desired[i]
		switch c, ok := before[first(d)]; {
		case !ok:
			added++
		case !endpointEqual(d, c):
			changed++
		}
		delete(before, first(d))
	}
	s := "endpoints:"
	for _, part := range []struct {
		sign string
		n    int
	}{{"+", added}, {"-", len(before)}, {"~", changed}} {
		if part.n > 0 {
			s += fmt.Sprintf(" %s%d", part.sign, part.n)
		}
	}
	if s == "endpoints:" {
		return "endpoints: order"
	}
	return s
}

func first(e *discoveryv1.Endpoint) string {
	if len(e.Addresses) == 0 {
		return ""
	}
	return e.Addresses[0]
}
