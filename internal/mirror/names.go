package mirror

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

const (
	// Prefix is that of every label and annotation that is Gimbal's alone.
	Prefix = "gimbal.projectcontour.io/"

	// LabelBackend is the label that names the upstream of a central object.
	LabelBackend = Prefix + "backend"
	// LabelService is the label that names the upstream Service of a central object.
	LabelService = Prefix + "service"
	// AnnotationSource is the annotation that holds the identity of a central object's
	// upstream Service, as <backend>/<namespace>/<name>.
	AnnotationSource = Prefix + "source"
	// AnnotationWeights is the annotation of a central slice that holds the weights of its
	// endpoints, other than 1, by address: a JSON object such as {"10.0.0.1":5}. A
	// slice has no field for them.
	AnnotationWeights = Prefix + "weights"
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by on central slices (KEP-752).
	ManagedBy = "discovery.gimbal.projectcontour.io"

	// MaxBackend is how many characters the name of an upstream may have. It leaves
	// room for a hash in every central name.
	MaxBackend = 40
)

// ServiceName returns the name of the central Service of the upstream Service k:
// <backend>-<service>, or <backend>--<start of service>-<hash> where that would have
// more than the 63 characters of a DNS label.
//
// Within one central namespace the name is injective, given that backend is a DNS
// label of at most MaxBackend characters, that k.Name is a DNS label, and that no two
// upstreams' names are Ambiguous:
//
//   - Names of two backends a and b differ. One name that begins with both a- and b-
//     would need one of them to begin with the other, and so a and b to be Ambiguous.
//   - Two plain names of one backend differ as their Services do.
//   - A hashed name goes on with a second dash where a plain one has the first
//     character of the Service's name, which is never a dash.
//   - Two hashed names end in 80 bits of SHA-256 over all of the identity, each part
//     preceded by its length.
func ServiceName(backend string, k Key) string {
	return centralName(backend, k.Namespace, k.Name, maxLabel)
}

// SliceName returns the name of the central slice of an upstream slice: made as
// ServiceName makes names, and injective for the same reasons, within the 253
// characters of a DNS subdomain. The slice's name must be a DNS subdomain.
func SliceName(backend, namespace, slice string) string {
	return centralName(backend, namespace, slice, maxSubdomain)
}

// Ambiguous reports whether one of two upstreams' names is the other, or the other
// and "-…": such a pair could give one central name to two Services.
func Ambiguous(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return strings.HasPrefix(b, a) && (len(a) == len(b) || b[len(a)] == '-')
}

func centralName(backend, namespace, name string, limit int) string {
	if len(backend)+1+len(name) <= limit {
		return backend + "-" + name
	}
	h := hash(backend, namespace, name)
	room := max(0, limit-len(backend)-len("--")-len("-")-len(h))
	// A label can't begin with a dash, so none of the cut may end in a dot.
	cut := strings.TrimRight(name[:min(room, len(name))], "-.")
	return backend + "--" + cut + "-" + h
}

// base32Lower is base32 with the extended hex alphabet (RFC 4648, section 7) in lower case.
var base32Lower = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// hash returns 80 bits of SHA-256 over the parts, in 16 characters.
func hash(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 10)
		b = append(b, ':')
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return base32Lower.EncodeToString(sum[:10])
}
