package mirror

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		r.APIVersion, r.Kind = cmp.Or(constant(r.APIVersion), r.APIVersion), cmp.Or(constant(r.Kind), r.Kind)
		if service := es.Labels[discoveryv1.LabelServiceName]; r.Name == service {
			r.Name = service // one string for both
		}
	}
	es.Endpoints = trimEndpoints(es.Endpoints)
	return es
}

// trimEndpoints copies endpoints to allocations of the exact size: one for all
// conditions, and one for each zone.
func trimEndpoints(in []discoveryv1.Endpoint) []discoveryv1.Endpoint {
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
		out[i] = discoveryv1.Endpoint{
			Addresses: e.Addresses,
			Conditions: discoveryv1.EndpointConditions{
				Ready:       pack(e.Conditions.Ready),
				Serving:     pack(e.Conditions.Serving),
				Terminating: pack(e.Conditions.Terminating),
			},
			Hostname: e.Hostname,
			Zone:     zone,
		}
	}
	return out
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         m.Namespace,
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            shared(m.Labels),
		Annotations:       shared(m.Annotations),
		OwnerReferences:   m.OwnerReferences,
		Finalizers:        m.Finalizers,
	}
}

// shared returns a copy of m in which the strings that all of Gimbal's objects have in
// common are constants, lest every object holds its own copies.
func shared(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[cmp.Or(constant(k), k)] = cmp.Or(constant(v), v)
	}
	return out
}

// constant returns the constant that is equal to s, or "".
func constant(s string) string {
	for _, c := range [...]string{
		discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy, ManagedBy, LabelBackend, LabelService, AnnotationSource,
		"v1", "Service",
	} {
		if s == c {
			return c
		}
	}
	return ""
}
