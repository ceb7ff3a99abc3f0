package mirror

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// Selection says which Services of an upstream are mirrored. The zero Selection
// selects all that can be.
type Selection struct {
	// Include are the namespaces to mirror; "*" stands for all, and so does an empty list.
	Include []string
	// Exclude are namespaces not to mirror, whether included or not; "*" stands for all.
	Exclude []string
	// Labels selects Services by their labels; nil selects every Service.
	Labels labels.Selector
}

// Namespace reports whether Services of a namespace may be selected.
func (s Selection) Namespace(name string) bool {
	return (len(s.Include) == 0 || names(s.Include, name)) && !names(s.Exclude, name)
}

// Service reports whether the Service k with these labels is selected. Two kinds never
// are: default/kubernetes, which is the upstream's own API server, and Services that
// Gimbal itself made, which would come back to where they came from.
func (s Selection) Service(k Key, l map[string]string) bool {
	if k == (Key{Namespace: "default", Name: "kubernetes"}) {
		return false
	}
	if _, mirrored := l[LabelBackend]; mirrored {
		return false
	}
	return s.Namespace(k.Namespace) && (s.Labels == nil || s.Labels.Matches(labels.Set(l)))
}

func names(list []string, name string) bool {
	return slices.Contains(list, name) || slices.Contains(list, "*")
}
