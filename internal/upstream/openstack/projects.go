package openstack

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// Selection says which load balancers of a cloud are mirrored.
type Selection struct {
	// Selection selects by the project's name, as the namespace, and by labels.
	mirror.Selection
	// Include and Exclude are projects, each by its name or id, or "*" for all. An empty Include includes all.
	Include, Exclude []string
}

// place is where the load balancers of a project are mirrored to, or why they aren't. The
// zero place is that of a project that isn't selected.
type place struct {
	namespace string
	own       map[string]string // annotations that all its Services share
	reason    mirror.Reason
	message   string
}

// places returns the place of each project, by id. home is the id of the domain of the
// credential's own project.
//
// Projects of one name in several domains are different teams' and don't mix. The
// namespace is the one's that spec.openstack.projects.include names by its id, or else
// the one's of the domain home; the others are refused, and all are where that doesn't
// decide. So it doesn't depend on which was first, and no other domain's project can take it away.
func (s Selection) places(projects []project, home string) map[string]place {
	byName := map[string][]project{}
	places := make(map[string]place, len(projects))
	for _, p := range projects {
		places[p.ID] = place{}
		if s.selects(p) {
			byName[p.Name] = append(byName[p.Name], p)
		}
	}
	for _, same := range byName {
		rank := func(p project) int {
			switch {
			case slices.Contains(s.Include, p.ID):
				return 2
			case p.Domain == home:
				return 1
			}
			return 0
		}
		slices.SortFunc(same, func(a, b project) int { return cmp.Or(rank(b)-rank(a), cmp.Compare(a.ID, b.ID)) })
		decided := len(same) == 1 || rank(same[0]) > rank(same[1])
		for i, p := range same {
			switch {
			case i > 0 || !decided:
				places[p.ID] = refused(p, ReasonAmbiguousProject, ambiguous(p, same))
			case len(validation.IsDNS1123Label(p.Name)) > 0:
				places[p.ID] = refused(p, mirror.ReasonInvalidName, fmt.Sprintf(
					"the project's name %.64q isn't a DNS label, so that no namespace can have it; rename the project", p.Name))
			default:
				places[p.ID] = place{namespace: p.Name, own: p.own()}
			}
		}
	}
	return places
}

// refused is the place of a project whose load balancers aren't mirrored. They are told of
// by the project's id: its name may be another's, or no namespace's.
func refused(p project, reason mirror.Reason, message string) place {
	return place{namespace: cmp.Or(p.ID, "-"), own: p.own(), reason: reason, message: message}
}

func ambiguous(p project, same []project) string {
	other := same[0]
	if other.ID == p.ID {
		other = same[1]
	}
	return fmt.Sprintf("the projects %s of domain %.64s and %s of domain %.64s are both called %.64q; name the one to mirror by its id in spec.openstack.projects.include, or exclude the other's",
		p.ID, p.Domain, other.ID, other.Domain, p.Name)
}

// unknown returns the place of a project that the credential doesn't see.
func (s Selection) unknown(id string) place {
	if len(s.Include) > 0 && !slices.Contains(s.Include, "*") && !slices.Contains(s.Include, id) || slices.Contains(s.Exclude, id) {
		return place{}
	}
	return refused(project{ID: id}, ReasonUnknownProject, fmt.Sprintf(
		"the credential has no role in the project %.64s, or it is deleted; grant reader there, or exclude it by its id in spec.openstack.projects.exclude", id))
}

func (s Selection) selects(p project) bool {
	names := func(list []string) bool {
		return slices.Contains(list, "*") || slices.Contains(list, p.ID) || slices.Contains(list, p.Name)
	}
	return (len(s.Include) == 0 || names(s.Include)) && !names(s.Exclude) && s.Namespace(p.Name)
}

// only reports whether nothing is selected but the project p.
func (s Selection) only(p project) bool {
	return len(s.Include) > 0 && !slices.ContainsFunc(s.Include, func(i string) bool { return i != p.ID && i != p.Name })
}
