// Package central is the central cluster as whoever writes there sees it: a view of the
// objects that one owner has made, the writes that change them, and what the cluster shows
// of itself.
//
// An owner is an upstream. It may be anything else that marks its objects by a label and can
// say of each object which key it was made for.
package central

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// Owner says which central objects are someone's.
type Owner struct {
	// Selector is the label selector of the objects: the API server sends no others.
	Selector string
	// KeyOf returns the key that an object was made for, or false where it isn't the
	// owner's, though it bears the label.
	KeyOf func(metav1.Object) (mirror.Key, bool)
}

// Upstream is the Owner of an upstream's central objects.
func Upstream(backend string) Owner {
	return Owner{
		Selector: mirror.LabelBackend + "=" + backend,
		KeyOf: func(o metav1.Object) (mirror.Key, bool) {
			b, key, ok := mirror.Owner(o)
			return key, ok && b == backend
		},
	}
}

// Protobuf asks for the encoding that costs both sides least, without a client-side
// rate limit in the way: the API server has its own fairness rules.
func Protobuf(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.QPS = -1
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}
