package mirror

import (
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
// Annotations stay, since an update of a slice replaces all of it; and the conditions
// of each endpoint lie together in one allocation.
func TrimSlice(es *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	es.ObjectMeta = trimMeta(&es.ObjectMeta)
	conditions := make([]bool, 0, 3*len(es.Endpoints))
	pack := func(p *bool) *bool {
		if p == nil {
			return nil
		}
		conditions = append(conditions, *p)
		return &conditions[len(conditions)-1]
	}
	var zone *string
	for i := range es.Endpoints {
		e := &es.Endpoints[i]
		if equal(e.Zone, zone) {
			e.Zone = zone
		}
		zone = e.Zone
		es.Endpoints[i] = discoveryv1.Endpoint{
			Addresses: e.Addresses,
			Conditions: discoveryv1.EndpointConditions{
				Ready:       pack(e.Conditions.Ready),
				Serving:     pack(e.Conditions.Serving),
				Terminating: pack(e.Conditions.Terminating),
			},
			Hostname: e.Hostname,
			Zone:     e.Zone,
		}
	}
	return es
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         m.Namespace,
		Name:              m.Name,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		DeletionTimestamp: m.DeletionTimestamp,
		Labels:            m.Labels,
		Annotations:       m.Annotations,
		OwnerReferences:   m.OwnerReferences,
		Finalizers:        m.Finalizers,
	}
}
