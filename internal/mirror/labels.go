package mirror

import (
	"maps"
	"slices"
	"strings"
)

const (
	// maxLabels is how many of an upstream Service's labels are copied. The API has no such bound;
	// this one keeps the object well below the size that the central etcd takes.
	maxLabels = 1000

	// protocolPrefix begins the annotations by which Contour learns a Service port's
	// protocol. Their values are port names and numbers, separated by commas.
	// https://projectcontour.io/docs/main/config/annotations/#contour-specific-service-annotations
	protocolPrefix = "projectcontour.io/upstream-protocol."
	// maxProtocolValue is in bytes. The API takes 256 KiB of annotations, keys included, and
	// there are three of these; it leaves room for ours and for others'.
	maxProtocolValue = 80 << 10
)

// protocols are those that Contour knows.
var protocols = [...]string{"h2", "h2c", "tls"}

// serviceLabels returns the labels of a central Service: the upstream's that may be
// copied, and ours.
func (r Rules) serviceLabels(s *Service, out *refusals) map[string]string {
	labels := make(map[string]string, min(len(s.Labels), maxLabels)+2)
	var invalid []string
	for key, v := range s.Labels {
		switch {
		case r.denied(key):
		case !isQualifiedName(key) || !isLabelValue(v):
			invalid = append(invalid, key)
		default:
			labels[key] = v
		}
	}
	if len(invalid) > 0 {
		out.add(ReasonInvalidLabel, "labels of the Service have an invalid key or value: %s; correct or remove them", few(invalid))
	}
	if n := len(labels); n > maxLabels {
		for _, key := range slices.Sorted(maps.Keys(labels))[maxLabels:] {
			delete(labels, key)
		}
		out.add(ReasonInvalidLabel, "the Service has %d labels, of which the first %d are copied; remove some", n, maxLabels)
	}
	for key, v := range s.OwnLabels {
		if v != "" && isLabelValue(v) {
			labels[key] = v
		}
	}
	labels[LabelBackend] = r.Backend
	labels[LabelService] = s.Name
	return labels
}

// denied reports whether a label may not be copied.
func (r Rules) denied(key string) bool {
	if deniedAlways(key) {
		return true
	}
	for _, d := range r.DeniedLabels {
		if p, all := strings.CutSuffix(d, "*"); d == key || all && strings.HasSuffix(p, "/") && strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// deniedAlways reports whether a label means something to a controller in the central
// cluster: those that Kubernetes reserves (https://kubernetes.io/docs/reference/labels-annotations-taints/),
// less the recommended app.kubernetes.io ones, Gimbal's own, and those by which
// deployment tools claim objects and then prune what they didn't make.
func deniedAlways(key string) bool {
	p, _, found := strings.Cut(key, "/")
	if !found {
		switch key {
		case "olm.managed", "olm.owner", "olm.owner.kind", "olm.owner.namespace":
			return true
		}
		return false
	}
	switch p {
	case "app.kubernetes.io":
		return key == "app.kubernetes.io/managed-by" || key == "app.kubernetes.io/instance"
	case "gimbal.projectcontour.io",
		"argocd.argoproj.io",
		"fleet.cattle.io",
		"helm.sh",
		"helm.toolkit.fluxcd.io",
		"kapp.k14s.io",
		"kustomize.toolkit.fluxcd.io",
		"mirror.linkerd.io",
		"multicluster.linkerd.io",
		"objectset.rio.cattle.io",
		"operators.coreos.com",
		"pipecd.dev":
		return true
	}
	return strings.HasSuffix(p, "kubernetes.io") || strings.HasSuffix(p, "k8s.io")
}

// serviceAnnotations returns the annotations of a central Service: the upstream's that
// name its ports' protocols, and our identity.
func serviceAnnotations(s *Service, id identity, out *refusals) map[string]string {
	annotations := make(map[string]string, 1+len(s.OwnAnnotations))
	maps.Copy(annotations, s.OwnAnnotations)
	annotations[AnnotationSource] = id.source()
	if len(s.Annotations) == 0 {
		return annotations
	}
	for _, p := range protocols {
		key := protocolPrefix + p
		v, ok := s.Annotations[key]
		if !ok {
			continue
		}
		if !isPortList(v) {
			out.add(ReasonInvalidLabel, "annotation %s with the value %s isn't a list of ports of at most %d bytes; write port names or numbers, separated by commas", key, quote(v), maxProtocolValue)
			continue
		}
		annotations[key] = v
	}
	return annotations
}

// isPortList reports whether s looks like port names and numbers, separated by commas.
func isPortList(s string) bool {
	if len(s) > maxProtocolValue {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLowerAlnum(c) && c != '-' && c != ',' && c != ' ' {
			return false
		}
	}
	return true
}

// ownAnnotation reports whether an annotation of a central object is Gimbal's to set
// and to remove. All others are left as they are.
func ownAnnotation(key string) bool {
	return strings.HasPrefix(key, Prefix) || strings.HasPrefix(key, protocolPrefix)
}
