// Package mirror decides what the central cluster should hold for an upstream
// Service, and which changes bring it there. It is pure: no client, clock, logger
// or metric; outputs are sorted and inputs are never changed.
package mirror

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Key names one upstream Service. The central Service lies in the namespace of the same name.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then by name.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// Service is one upstream application as a source reports it. Nothing in it has been checked.
type Service struct {
	Key
	Labels      map[string]string
	Annotations map[string]string
	// OwnLabels and OwnAnnotations are Gimbal's: the source sets them, not the upstream.
	// Their keys begin with Prefix.
	OwnLabels      map[string]string
	OwnAnnotations map[string]string
	Ports          []Port
	Slices         []Slice
	// Unsettled says that the upstream is in the middle of changing the Service: what the
	// central cluster has of it stays as it is. Nothing else but Refusals counts then.
	Unsettled bool
	// Refused says that no central object is made of the Service; Refusals say why.
	Refused bool
	// Refusals are parts of the Service that the source itself couldn't express.
	Refusals []Refusal
}

// Port is one port of a Service.
type Port struct {
	Name        string
	Number      int32
	Protocol    corev1.Protocol
	AppProtocol string
}

// Slice is a set of endpoints that share an address family and ports.
type Slice struct {
	// Name is unique among the slices of the upstream namespace.
	Name        string
	AddressType discoveryv1.AddressType
	// Ports are matched with the Service's by name; Number is the endpoints' port.
	Ports     []Port
	Endpoints []Endpoint
}

// Endpoint is one backend of a Service.
type Endpoint struct {
	Addresses                   []string
	Hostname                    string
	Zone                        string
	Ready, Serving, Terminating bool
	// Weight is the endpoint's share of traffic beside others'; nil, where the upstream has no weights, counts as 1.
	Weight *int32
}

// Reason is why an object or a part of one isn't mirrored, in one word: a metric's label.
type Reason string

// The reasons that every kind of upstream can have.
const (
	ReasonNameTaken        Reason = "NameTaken"        // a foreign object has the name
	ReasonFQDNSlice        Reason = "FQDNSlice"        // host names can't be endpoints
	ReasonAddressDenied    Reason = "AddressDenied"    // in a range that is always refused
	ReasonAddressOutside   Reason = "AddressOutside"   // not in the upstream's allowedCIDRs
	ReasonInvalidAddress   Reason = "InvalidAddress"   // not an address of the slice's family
	ReasonInvalidName      Reason = "InvalidName"      // namespace, Service or slice name isn't valid
	ReasonInvalidPort      Reason = "InvalidPort"      // number, name, protocol or appProtocol isn't valid, or occurs twice
	ReasonPortUnmatched    Reason = "PortUnmatched"    // no Service port of that name
	ReasonInvalidLabel     Reason = "InvalidLabel"     // key or value of a label or annotation isn't valid
	ReasonNoFamily         Reason = "NoFamily"         // every endpoint is of an address family that the central cluster's nodes don't have
	ReasonTooManyEndpoints Reason = "TooManyEndpoints" // more than the API allows: central objects stay as they are
	ReasonTooManyPorts     Reason = "TooManyPorts"     // more than the API allows: central objects stay as they are
	ReasonRejected         Reason = "Rejected"         // the central API server refused the object
)

// Refusal is one upstream object, or a part of one, that isn't mirrored, and why.
type Refusal struct {
	Key
	Reason Reason
	// Message names the part, the reason and the way out.
	Message string
}
