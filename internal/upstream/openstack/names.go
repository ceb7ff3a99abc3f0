package openstack

import "github.com/projectcontour/gimbal/internal/mirror"

// The labels and annotations that only Services of this kind of upstream have.
const (
	// LabelLoadBalancer holds the name of the load balancer that a central Service was
	// made for, made a valid value.
	LabelLoadBalancer = mirror.Prefix + "load-balancer"
	// LabelPool holds the name, made a valid value, of the pool that a central Service
	// was made for: one that no listener has as its default.
	LabelPool = mirror.Prefix + "pool"
	// AnnotationProject holds the identity of the project of a central Service, as <id
	// of the domain>/<id of the project>.
	AnnotationProject = mirror.Prefix + "project"
)

// The reasons to refuse an object, or a part of one, that only this kind of upstream has.
const (
	ReasonAmbiguousProject mirror.Reason = "AmbiguousProject" // projects of several domains have the name
	ReasonUnknownProject   mirror.Reason = "UnknownProject"   // the credential can't see the load balancer's project, or it is gone
	ReasonUnsupported      mirror.Reason = "Unsupported"      // a protocol that Envoy can't speak to the endpoints
	ReasonAccessControl    mirror.Reason = "AccessControl"    // the load balancer lets only some clients in, which the tier can't see to
	ReasonUnsettled        mirror.Reason = "Unsettled"        // in the middle of a change for long: central objects stay as they are
)
