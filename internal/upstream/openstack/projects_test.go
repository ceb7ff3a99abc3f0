package openstack

import (
	"slices"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestPlaces(t *testing.T) {
	shopA, shopB, shopHome := project{"a", "shop", "d1"}, project{"b", "shop", "d2"}, project{"h", "shop", "home"}
	web := project{"w", "web", "home"}
	for name, tc := range map[string]struct {
		include, exclude []string
		namespaces       mirror.Selection
		projects         []project
		// want is the namespace, or the reason of a refusal, by id; "" for a project that isn't selected.
		want map[string]string
	}{
		"all":                        {projects: []project{web, shopA}, want: map[string]string{"w": "web", "a": "shop"}},
		"*":                          {include: []string{"*"}, projects: []project{web, shopA}, want: map[string]string{"w": "web", "a": "shop"}},
		"by name":                    {include: []string{"web"}, projects: []project{web, shopA}, want: map[string]string{"w": "web", "a": ""}},
		"by id":                      {include: []string{"a"}, projects: []project{web, shopA}, want: map[string]string{"w": "", "a": "shop"}},
		"not by name":                {exclude: []string{"web"}, projects: []project{web, shopA}, want: map[string]string{"w": "", "a": "shop"}},
		"not by id":                  {exclude: []string{"a"}, projects: []project{web, shopA}, want: map[string]string{"w": "web", "a": ""}},
		"none":                       {exclude: []string{"*"}, projects: []project{web}, want: map[string]string{"w": ""}},
		"exclude beats include":      {include: []string{"web"}, exclude: []string{"w"}, projects: []project{web}, want: map[string]string{"w": ""}},
		"namespaces.include":         {namespaces: mirror.Selection{Include: []string{"web"}}, projects: []project{web, shopA}, want: map[string]string{"w": "web", "a": ""}},
		"namespaces.exclude":         {namespaces: mirror.Selection{Exclude: []string{"web"}}, projects: []project{web, shopA}, want: map[string]string{"w": "", "a": "shop"}},
		"one name in two domains":    {projects: []project{shopA, shopB}, want: map[string]string{"a": "AmbiguousProject", "b": "AmbiguousProject"}},
		"the own domain wins":        {projects: []project{shopA, shopB, shopHome}, want: map[string]string{"a": "AmbiguousProject", "b": "AmbiguousProject", "h": "shop"}},
		"an id in include wins":      {include: []string{"*", "b"}, projects: []project{shopA, shopB, shopHome}, want: map[string]string{"a": "AmbiguousProject", "b": "shop", "h": "AmbiguousProject"}},
		"only the one of an id":      {include: []string{"b"}, projects: []project{shopA, shopB, shopHome}, want: map[string]string{"a": "", "b": "shop", "h": ""}},
		"two ids in include":         {include: []string{"a", "b"}, projects: []project{shopA, shopB, shopHome}, want: map[string]string{"a": "AmbiguousProject", "b": "AmbiguousProject", "h": ""}},
		"the other one is excluded":  {exclude: []string{"a"}, projects: []project{shopA, shopB}, want: map[string]string{"a": "", "b": "shop"}},
		"a name in include isn't it": {include: []string{"shop"}, projects: []project{shopA, shopB}, want: map[string]string{"a": "AmbiguousProject", "b": "AmbiguousProject"}},
		"upper case":                 {projects: []project{{"x", "Web", "home"}}, want: map[string]string{"x": "InvalidName"}},
		"spaces":                     {projects: []project{{"x", "my team", "home"}}, want: map[string]string{"x": "InvalidName"}},
		"no name":                    {projects: []project{{"x", "", "home"}}, want: map[string]string{"x": "InvalidName"}},
		"long":                       {projects: []project{{"x", strings.Repeat("n", 64), "home"}}, want: map[string]string{"x": "InvalidName"}},
		"longest":                    {projects: []project{{"x", strings.Repeat("n", 63), "home"}}, want: map[string]string{"x": strings.Repeat("n", 63)}},
		"dots":                       {projects: []project{{"x", "a.b", "home"}}, want: map[string]string{"x": "InvalidName"}},
		"none of them":               {projects: nil, want: map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Selection{Selection: tc.namespaces, Include: tc.include, Exclude: tc.exclude}
			for range 2 {
				slices.Reverse(tc.projects) // the order doesn't matter
				places := s.places(tc.projects, "home")
				if len(places) != len(tc.want) {
					t.Errorf("got %v", places)
				}
				for _, p := range tc.projects {
					got, want := places[p.ID], tc.want[p.ID]
					switch {
					case got.reason != "":
						if string(got.reason) != want || got.message == "" || got.namespace != p.ID {
							t.Errorf("%s: got %+v, want %s", p.ID, got, want)
						}
					case got.namespace != want || want != "" && got.own[AnnotationProject] != p.Domain+"/"+p.ID:
						t.Errorf("%s: got %+v, want %q", p.ID, got, want)
					}
				}
			}
		})
	}
}

func TestAmbiguousNamesBoth(t *testing.T) {
	places := Selection{}.places([]project{{"a", "shop", "d1"}, {"b", "shop", "d2"}}, "home")
	for _, p := range places {
		if !strings.Contains(p.message, "projects a of domain d1 and b of domain d2") && !strings.Contains(p.message, "projects b of domain d2 and a of domain d1") {
			t.Errorf("message %q", p.message)
		}
	}
}

func TestUnknownProject(t *testing.T) {
	for name, tc := range map[string]struct {
		include, exclude []string
		told             bool
	}{
		"all":            {nil, nil, true},
		"*":              {[]string{"*"}, nil, true},
		"by id":          {[]string{"x"}, nil, true},
		"another's name": {[]string{"web"}, nil, false},
		"excluded":       {nil, []string{"x"}, false},
		"another's id":   {nil, []string{"y"}, true},
	} {
		got := Selection{Include: tc.include, Exclude: tc.exclude}.unknown("x")
		if (got.reason == ReasonUnknownProject && got.namespace == "x") != tc.told || tc.told == (got.namespace == "") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if got := (Selection{}).unknown(""); got.namespace == "" || got.reason == "" {
		t.Errorf("without an id: got %+v", got)
	}
}

func TestOnly(t *testing.T) {
	own := project{ID: "x", Name: "web"}
	for name, tc := range map[string]struct {
		include []string
		want    bool
	}{
		"all": {nil, false}, "*": {[]string{"*"}, false}, "by name": {[]string{"web"}, true}, "by id": {[]string{"x"}, true},
		"by both": {[]string{"x", "web"}, true}, "another too": {[]string{"x", "shop"}, false},
	} {
		if got := (Selection{Include: tc.include}).only(own); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
