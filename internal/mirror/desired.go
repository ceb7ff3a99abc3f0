package mirror

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rules say how the Services of one upstream are mirrored.
type Rules struct {
	// Backend is the upstream's name: a DNS label of at most MaxBackend characters.
	Backend string
	// Addresses says which endpoint addresses may be mirrored.
	Addresses AddressPolicy
	// Families are the address families that the central cluster's proxies can connect to;
	// both, if there are none. Endpoints of another aren't mirrored.
	Families []discoveryv1.AddressType
	// DeniedLabels are labels not to copy, besides those that never are: each a key, or
	// prefix/* for all keys with a prefix.
	DeniedLabels []string
}

// Objects are the central objects of one upstream Service. Service is nil where there
// are none, or should be none.
type Objects struct {
	Service *corev1.Service
	Slices  []*discoveryv1.EndpointSlice
	// Answers says which of them an admission policy makes differ from what was sent.
	Answers Answers
}

// Desired returns the objects that the central cluster should hold for s, and what of s
// is refused, s.Refusals included. Slices are in order of name, endpoints of address, and
// ports as s has them, since that is the order by which consumers choose. The objects share
// nothing with s that could be changed through them.
//
// A Service that is refused as a whole, here or by its source, gives no objects, and so does
// one that goes past a bound. Each slice keeps the ports whose name and protocol are those of a
// Service port, as kube-proxy does, and the endpoints all of whose addresses may be mirrored.
func (r Rules) Desired(s *Service) (Objects, []Refusal) {
	objects, refused, _ := r.desire(s)
	return objects, refused
}

func (r Rules) desire(s *Service) (Objects, []Refusal, verdict) {
	out := &refusals{key: s.Key}
	for _, f := range s.Refusals {
		out.keep(f)
	}
	is := r.verdict(s, out)
	if is != mirrored {
		return Objects{}, out.all(), is
	}
	ports, ok := servicePorts(s.Ports, out)
	if !ok {
		return Objects{}, out.all(), refusedWhole
	}
	id := identity{r.Backend, s.Key}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   s.Namespace,
			Name:        ServiceName(r.Backend, s.Key),
			Labels:      r.serviceLabels(s, out),
			Annotations: serviceAnnotations(s, id, out),
		},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeClusterIP,
			ClusterIP: corev1.ClusterIPNone,
			Ports:     ports,
		},
	}
	return Objects{Service: svc, Slices: r.desiredSlices(s, svc, out)}, out.all(), mirrored
}

// Refuses reports whether s is refused as a whole, so that the central cluster should have
// nothing of it. It costs much less than Desired. A Service that is unsettled, or that goes past
// a bound, isn't refused.
func (r Rules) Refuses(s *Service) bool {
	if s.Unsettled {
		return false
	}
	out := &refusals{key: s.Key}
	switch r.verdict(s, out) {
	case refusedWhole:
		return true
	case pastBound:
		return false
	}
	_, ok := servicePorts(s.Ports, out)
	return !ok
}

// verdict says what becomes of s as a whole, as far as names and bounds tell.
func (r Rules) verdict(s *Service, out *refusals) verdict {
	switch {
	case s.Refused || !r.namesValid(s.Key, out):
		return refusedWhole
	case !withinBounds(s, out):
		return pastBound
	}
	return mirrored
}

func (r Rules) namesValid(k Key, out *refusals) bool {
	switch {
	case !isDNSLabel(r.Backend) || len(r.Backend) > MaxBackend:
		out.add(ReasonInvalidName, "the upstream's name %s isn't a DNS label of at most %d characters; rename the upstream", quote(r.Backend), MaxBackend)
	case !isDNSLabel(k.Namespace):
		out.add(ReasonInvalidName, "namespace %s isn't a DNS label; rename the namespace", quote(k.Namespace))
	case !isDNSLabel(k.Name):
		out.add(ReasonInvalidName, "Service name %s isn't a DNS label; rename the Service", quote(k.Name))
	default:
		return true
	}
	return false
}

func (r Rules) desiredSlices(s *Service, svc *corev1.Service, out *refusals) []*discoveryv1.EndpointSlice {
	sorted := make([]*Slice, len(s.Slices))
	for i := range s.Slices {
		sorted[i] = &s.Slices[i]
	}
	slices.SortStableFunc(sorted, func(a, b *Slice) int { return cmp.Compare(a.Name, b.Name) })

	desired := make([]*discoveryv1.EndpointSlice, 0, len(sorted))
	for i, in := range sorted {
		if i > 0 && in.Name == sorted[i-1].Name {
			out.add(ReasonInvalidName, "slice %s occurs twice; rename one", quote(in.Name))
			continue
		}
		if es := r.desiredSlice(in, svc, s.Key, out); es != nil {
			desired = append(desired, es)
		}
	}
	r.noteUnreachable(s, svc.Spec.Ports, out)
	slices.SortFunc(desired, byName)
	return desired
}

// byName is needed after sorting by upstream name too: a long name's hash changes the order.
func byName(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }

// Expired returns the objects of current that Gimbal made, with every endpoint neither
// ready nor serving and all else equal: what is desired of an upstream that has been out of
// contact for too long. A Service that is missing or foreign stays so: then the
// result has slices only, and Plan changes no more than those. The result shares
// with current what doesn't differ.
func Expired(current Objects) Objects {
	var expired Objects
	if s := current.Service; s != nil {
		if _, ours := identityOf(s); ours {
			expired.Service = s
		}
	}
	for _, cur := range current.Slices {
		if _, ours := identityOf(cur); !ours {
			continue
		}
		es := *cur
		es.Endpoints = slices.Clone(cur.Endpoints)
		for i := range es.Endpoints {
			// Envoy Gateway sends traffic to what is serving, too.
			es.Endpoints[i].Conditions.Ready, es.Endpoints[i].Conditions.Serving = new(false), new(false)
		}
		expired.Slices = append(expired.Slices, &es)
	}
	slices.SortFunc(expired.Slices, byName)
	return expired
}

// identity returns the upstream Service of the objects, or false if they are foreign or there are none.
func (o Objects) identity() (identity, bool) {
	switch {
	case o.Service != nil:
		return identityOf(o.Service)
	case len(o.Slices) > 0:
		return identityOf(o.Slices[0])
	default:
		return identity{}, false
	}
}
