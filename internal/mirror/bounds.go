package mirror

// The bounds of what is mirrored of one Service, which are the API's own
// (k8s.io/kubernetes, pkg/apis/discovery/validation). A Service past one of them keeps what
// the central cluster has of it: a bound must not take traffic away. The API server has
// further bounds, such as the size of an object; what it refuses stays as it was, too.
const (
	maxPorts     = 20_000 // of a slice, and so of a Service
	maxEndpoints = 1000   // of a slice
	maxAddresses = 100    // of an endpoint; one with more is refused alone
)

// withinBounds reports whether s can be mirrored for its size.
func withinBounds(s *Service, out *refusals) bool {
	if len(s.Ports) > maxPorts {
		out.add(ReasonTooManyPorts, "the Service has %d ports, more than the %d that a slice may have, and stays as it was; split it", len(s.Ports), maxPorts)
		return false
	}
	for i := range s.Slices {
		switch in := &s.Slices[i]; {
		case len(in.Endpoints) > maxEndpoints:
			out.add(ReasonTooManyEndpoints, "slice %s has %d endpoints, more than the %d that a slice may have, and the Service stays as it was; split the slice", quote(in.Name), len(in.Endpoints), maxEndpoints)
			return false
		case len(in.Ports) > maxPorts:
			out.add(ReasonTooManyPorts, "slice %s has %d ports, more than the %d that a slice may have, and the Service stays as it was; split the slice", quote(in.Name), len(in.Ports), maxPorts)
			return false
		}
	}
	return true
}
