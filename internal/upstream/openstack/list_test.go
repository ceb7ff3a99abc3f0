package openstack

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/upstreamtest"
)

// answers is a session with a server that gives these answers, one after the other, and then none.
func answers(t *testing.T, bodies ...string) (*session, *[]string) {
	t.Helper()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		if len(asked) > len(bodies) {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		body := bodies[len(asked)-1]
		if status, err := strconv.Atoi(body); err == nil {
			w.WriteHeader(status)
			return
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	s := newSession(&Config{}, upstreamtest.Limit)
	s.provider = &gophercloud.ProviderClient{HTTPClient: s.client}
	s.octavia = server.URL + "/"
	return s, &asked
}

func TestList(t *testing.T) {
	const next = `"pools_links":[{"rel":"previous","href":"x"},{"rel":"next","href":"https://elsewhere/"}]`
	two := `{"pools":[{"id":"a"},{"id":"b"}],` + next + `}`
	for name, tc := range map[string]struct {
		bodies  []string // each a page, or the status of an error
		objects int
		bytes   int
		want    int    // objects; -1 where it fails
		says    string // of the error
		asked   string // last
	}{
		"one page":                       {bodies: []string{`{"pools":[{"id":"a"}],"pools_links":[]}`}, want: 1, asked: "limit=1000"},
		"none":                           {bodies: []string{`{"pools":[],"pools_links":[]}`}, want: 0},
		"no links":                       {bodies: []string{`{"pools":[{"id":"a"}]}`}, want: 1},
		"null links":                     {bodies: []string{`{"pools":[{"id":"a"}],"pools_links":null}`}, want: 1},
		"previous alone":                 {bodies: []string{`{"pools":[{"id":"a"}],"pools_links":[{"rel":"previous"}]}`}, want: 1},
		"two pages":                      {bodies: []string{two, `{"pools":[{"id":"c"}],"pools_links":[]}`}, want: 3, asked: "limit=1000&marker=b"},
		"full last page":                 {bodies: []string{two, `{"pools":[],"pools_links":[]}`}, want: 2, asked: "limit=1000&marker=b"},
		"Keystone":                       {bodies: []string{`{"pools":[{"id":"a"}],"links":{"next":null,"self":"x","previous":null}}`}, want: 1},
		"Keystone's next page":           {bodies: []string{`{"pools":[{"id":"a"}],"links":{"next":"x"}}`, `{"pools":[],"links":{"next":null}}`}, want: 1, asked: "limit=1000&marker=a"},
		"not truncated":                  {bodies: []string{`{"pools":[],"truncated":false}`}, want: 0},
		"other fields":                   {bodies: []string{`{"a":{"pools":[1]},"pools":[{"id":"a"}],"b":[[]]}`}, want: 1},
		"truncated":                      {bodies: []string{`{"pools":[{"id":"a"}],"truncated":true}`}, want: -1, says: "list_limit"},
		"page 2 fails":                   {bodies: []string{two}, want: -1, says: "418"},
		"a marker that vanished":         {bodies: []string{two, "400", `{"pools":[{"id":"a"},{"id":"c"}]}`}, want: 2, asked: "limit=1000"},
		"… counts what is kept":          {bodies: []string{two, "400", two, "400", two, `{"pools":[{"id":"c"}]}`}, objects: 3, bytes: 2*len(two) + 20, want: 3, asked: "limit=1000&marker=b"},
		"markers that vanish for ever":   {bodies: []string{two, "400", two, "400", two, "400", two, "400", two, `{"pools":[]}`}, want: -1, says: "400"},
		"a first page that is refused":   {bodies: []string{"400", `{"pools":[]}`}, want: -1, says: "400"},
		"a marker that isn't found":      {bodies: []string{two, "404", `{"pools":[{"id":"a"}]}`}, want: 1},
		"a page that fails isn't marker": {bodies: []string{two, "500", `{"pools":[]}`}, want: -1, says: "500"},
		"empty page with next":           {bodies: []string{`{"pools":[],` + next + `}`}, want: -1, says: "empty page"},
		"twice":                          {bodies: []string{`{"pools":[{"id":"a"},{"id":"a"}]}`}, want: -1, says: "twice"},
		"twice on two pages":             {bodies: []string{two, `{"pools":[{"id":"b"}]}`}, want: -1, says: "twice"},
		"the first page again":           {bodies: []string{two, two}, want: -1, says: "twice"},
		"no id":                          {bodies: []string{`{"pools":[{"name":"a"}]}`}, want: -1, says: "no valid id"},
		"an id that is a path":           {bodies: []string{`{"pools":[{"id":"../a"}]}`}, want: -1, says: "no valid id"},
		"a long id":                      {bodies: []string{`{"pools":[{"id":"` + strings.Repeat("a", 65) + `"}]}`}, want: -1, says: "no valid id"},
		"null object":                    {bodies: []string{`{"pools":[null]}`}, want: -1, says: "no valid id"},
		"missing list":                   {bodies: []string{`{"pools_links":[]}`}, want: -1, says: "no list of pools"},
		"null list":                      {bodies: []string{`{"pools":null}`}, want: -1, says: "no list of pools"},
		"no list":                        {bodies: []string{`{"pools":{}}`}, want: -1, says: "no list of pools"},
		"another list":                   {bodies: []string{`{"members":[]}`}, want: -1, says: "no list of pools"},
		"two lists":                      {bodies: []string{`{"pools":[{"id":"a"}],"pools":[]}`}, want: -1, says: "two lists"},
		"two lists, one empty":           {bodies: []string{`{"pools":[],"pools":[{"id":"a"}]}`}, want: -1, says: "two lists"},
		"wrong types":                    {bodies: []string{`{"pools":[{"id":"a","admin_state_up":"yes"}]}`}, want: -1, says: "no list of pools"},
		"cut in the list":                {bodies: []string{`{"pools":[{"id":"a"},`}, want: -1, says: "no list of pools"},
		"cut after the list":             {bodies: []string{`{"pools":[{"id":"a"}]`}, want: -1, says: "JSON"},
		"cut in the links":               {bodies: []string{`{"pools":[{"id":"a"}],"pools_links":[{"re`}, want: -1, says: "JSON"},
		"more after it":                  {bodies: []string{`{"pools":[]}{"pools":[]}`}, want: -1, says: "JSON"},
		"no object":                      {bodies: []string{`[]`}, want: -1, says: "JSON"},
		"null":                           {bodies: []string{`null`}, want: -1, says: "JSON"},
		"nothing":                        {bodies: []string{``}, want: -1, says: "JSON"},
		"HTML":                           {bodies: []string{`<html>please log in</html>`}, want: -1, says: "JSON"},
		"links are no list":              {bodies: []string{`{"pools":[],"pools_links":"x"}`}, want: -1, says: "links"},
		"links are no object":            {bodies: []string{`{"pools":[],"links":[1]}`}, want: -1, says: "links"},
		"as many as may be":              {bodies: []string{two, `{"pools":[{"id":"c"}]}`}, objects: 3, want: 3},
		"too many":                       {bodies: []string{two, `{"pools":[{"id":"c"}]}`}, objects: 2, want: -1, says: "more than 2 pools"},
		"too many on one page":           {bodies: []string{two}, objects: 1, want: -1, says: "more than 1 pools"},
		"too many bytes of all":          {bodies: []string{two, `{"pools":[]}`}, bytes: len(two), want: -1, says: "bytes of pools"},
	} {
		t.Run(name, func(t *testing.T) {
			s, asked := answers(t, tc.bodies...)
			c := collection{api: s.octavia, path: "pools", name: "pools", most: amount{100, 1000}, read: new(usage)}
			if tc.objects > 0 {
				c.most.objects = tc.objects
			}
			if tc.bytes > 0 {
				c.most.bytes = tc.bytes
			}
			all, clock, err := list[pool](t.Context(), s, c)
			if tc.want < 0 {
				if err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "pools") || all != nil {
					t.Errorf("got %v, error %v, want %q", all, err, tc.says)
				}
				large := new(upstream.TooLarge)
				if errors.As(err, &large) != strings.Contains(tc.says, "pools") && strings.Contains(tc.says, "more than") {
					t.Errorf("error %T", err)
				}
				return
			}
			if err != nil || len(all) != tc.want || clock.IsZero() {
				t.Errorf("got %v at %v, error %v", all, clock, err)
			}
			if last := (*asked)[len(*asked)-1]; tc.asked != "" && last != tc.asked {
				t.Errorf("asked %q, want %q", last, tc.asked)
			}
		})
	}
}

// What the listings of all pools' members may hold is bounded together.
func TestListsShareUsage(t *testing.T) {
	s, _ := answers(t, `{"pools":[{"id":"a"}]}`, `{"pools":[{"id":"b"}]}`)
	c := collection{api: s.octavia, path: "pools", name: "pools", most: amount{1, 1000}, read: new(usage)}
	if _, _, err := list[pool](t.Context(), s, c); err != nil {
		t.Fatal(err)
	}
	large := new(upstream.TooLarge)
	if _, _, err := list[pool](t.Context(), s, c); !errors.As(err, &large) {
		t.Errorf("error %v", err)
	}
}

// An answer of few bytes can be of many objects.
func TestPageIsBounded(t *testing.T) {
	body := []byte(`{"loadbalancers":[` + strings.Repeat("{},", 1<<20) + `{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := page[loadBalancer](bytes.NewReader(body), "loadbalancers", 1000); !errors.Is(err, errTooMany) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 2<<20 {
		t.Errorf("%d bytes were taken", allocated)
	}
}

func TestOne(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"loadbalancer":{"id":"a"}}`: true, `{"loadbalancer":{"id":"a"}`: false, `{}`: false, `[]`: false, `{"loadbalancer":{"id":"a"}}{}`: false, ``: false, `{"loadbalancer":[]}`: false,
	} {
		if lb, err := one[loadBalancer](strings.NewReader(body), "loadbalancer"); (err == nil) != ok || ok && lb.ID != "a" {
			t.Errorf("%s: got %v, %v", body, lb, err)
		}
	}
}
