package mirror

import (
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TrimService drops from a central Service what Plan, Owner and Expired don't
// read, and returns it. It changes its argument: it is meant for objects on their way
// into a cache.
func TrimService(s *corev1.Service) *corev1.Service {
	s.ObjectMeta = trimMeta(&s.ObjectMeta)
	for key := range s.Annotations {
		if !ownAnnotation(key) {
			delete(s.Annotations, key)
		}
	}
	s.Spec = corev1.ServiceSpec{
		Type:      s.Spec.Type,
		ClusterIP: s.Spec.ClusterIP,
		Ports:     s.Spec.Ports,
		Selector:  s.Spec.Selector,
	}
	s.Status = corev1.ServiceStatus{}
	return s
}

// TrimSlice drops from a central slice what Plan, Owner, Expired and counting
// endpoints don't read, and returns it. It changes its argument, as TrimService does.
// Annotations stay, since an update of a slice replaces all of it.
func TrimSlice(es *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	es.ObjectMeta = trimMeta(&es.ObjectMeta)
	for i := range es.OwnerReferences {
		r := &es.OwnerReferences[i]
		r.APIVersion, r.Kind, r.UID = shared(r.APIVersion), shared(r.Kind), types.UID(shared(string(r.UID)))
		r.Name = shared(r.Name)
	}
	es.Endpoints = trimEndpoints(es.Endpoints)
	return es
}

// trimEndpoints copies endpoints to allocations of the exact size: one for all addresses,
// one for all conditions, and one for each zone.
func trimEndpoints(in []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	addresses := packAddresses(in)
	conditions := make([]bool, 0, 3*len(in))
	pack := func(p *bool) *bool {
		if p == nil {
			return nil
		}
		conditions = append(conditions, *p)
		return &conditions[len(conditions)-1]
	}
	zones := map[string]*string{}
	out := make([]discoveryv1.Endpoint, len(in))
	for i := range in {
		e := &in[i]
		zone := e.Zone
		if zone != nil {
			if zones[*zone] == nil {
				zones[*zone] = zone
			}
			zone = zones[*zone]
		}
		n := len(e.Addresses)
		out[i] = discoveryv1.Endpoint{
			Addresses: addresses[:n:n],
			Conditions: discoveryv1.EndpointConditions{
				Ready:       pack(e.Conditions.Ready),
				Serving:     pack(e.Conditions.Serving),
				Terminating: pack(e.Conditions.Terminating),
			},
			Hostname: e.Hostname,
			Zone:     zone,
		}
		addresses = addresses[n:]
	}
	return out
}

// packAddresses returns the addresses of all endpoints, in order, in one allocation for the
// list and one for what it holds.
func packAddresses(in []discoveryv1.Endpoint) []string {
	var text strings.Builder
	n, size := 0, 0
	for i := range in {
		for _, a := range in[i].Addresses {
			n, size = n+1, size+len(a)
		}
	}
	text.Grow(size)
	for i := range in {
		for _, a := range in[i].Addresses {
			text.WriteString(a)
		}
	}
	all, rest := make([]string, 0, n), text.String()
	for i := range in {
		for _, a := range in[i].Addresses {
			all, rest = append(all, rest[:len(a)]), rest[len(a):]
		}
	}
	return all
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         shared(m.Namespace),
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            sharedMap(m.Labels),
		Annotations:       sharedMap(m.Annotations),
		OwnerReferences:   m.OwnerReferences,
		Finalizers:        m.Finalizers,
	}
}

// sharedMap returns a copy of m whose strings are shared.
func sharedMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[shared(k)] = shared(v)
	}
	return out
}

// shared returns s in an allocation that it shares with equal strings, of which the central
// objects have many.
func shared(s string) string { return unique.Make(s).Value() }
