package mirror

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Owner returns the upstream and the upstream Service that a central object was made
// for, or false if the object is foreign: not made by Gimbal, or no longer what Gimbal
// made. An object is Gimbal's if its label LabelBackend and its AnnotationSource name
// the same upstream, its namespace is the upstream Service's and, for a Service, its
// name is ServiceName's.
func Owner(o metav1.Object) (backend string, k Key, ok bool) {
	backend, rest, found := strings.Cut(o.GetAnnotations()[AnnotationSource], "/")
	if !found || backend == "" || backend != o.GetLabels()[LabelBackend] {
		return "", Key{}, false
	}
	k.Namespace, k.Name, found = strings.Cut(rest, "/")
	if !found || k.Namespace != o.GetNamespace() || !isDNSLabel(k.Name) {
		return "", Key{}, false
	}
	if _, isService := o.(*corev1.Service); isService && o.GetName() != ServiceName(backend, k) {
		return "", Key{}, false
	}
	return backend, k, true
}

// identity is an upstream Service among all upstreams'.
type identity struct {
	backend string
	Key
}

func identityOf(o metav1.Object) (identity, bool) {
	backend, k, ok := Owner(o)
	return identity{backend, k}, ok
}

// owns reports whether a central object was made for the Service.
func (id identity) owns(o metav1.Object) bool {
	got, ok := identityOf(o)
	return ok && got == id
}

// source is the value of AnnotationSource.
func (id identity) source() string {
	return id.backend + "/" + id.Namespace + "/" + id.Name
}
