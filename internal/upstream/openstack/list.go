package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// pageSize is how many objects one request of a listing asks for. A server may have a lower limit.
const pageSize = 1000

// object is an element of a collection.
type object interface{ id() string }

// collection is one that is listed.
type collection struct {
	api, path string
	name      string // of the answer's field
	most      amount // of all answers together
	// selects says that the API sends only the fields that are asked for.
	selects bool
	// read is what has been read already of the most that there may be. Several listings may share it.
	read *usage
}

// amount is a number of objects, and of bytes of their answers.
type amount struct{ objects, bytes int }

type usage struct{ objects, bytes atomic.Int64 }

// restarts is how often one listing begins anew.
const restarts = 3

// list returns all objects of a collection and the server's clock at the first page, or
// an error: whatever casts doubt on its being whole is one.
//
// Of the server's link to a next page only its being there counts: Octavia's leave out
// filters, and a link may lead where the token mustn't go. An object that is deleted while it
// is the marker of the next page has the listing begin anew.
func list[T object](ctx context.Context, s *session, c collection) (all []T, clock time.Time, err error) {
	for n := 0; ; n++ {
		l := &listing[T]{session: s, collection: c}
		err := l.pages(ctx)
		if err == nil {
			return l.all, l.clock, nil
		}
		if !l.markerGone || n == restarts {
			return nil, l.clock, err
		}
		c.read.objects.Add(-l.used.objects.Load())
		c.read.bytes.Add(-l.used.bytes.Load())
	}
}

// listing is one attempt at a collection.
type listing[T object] struct {
	session *session
	collection
	used usage // what this attempt has read

	all        []T
	clock      time.Time // the server's, at the first page
	markerGone bool      // the last page was refused for its marker
}

func (l *listing[T]) pages(ctx context.Context) error {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if l.selects {
		query["fields"] = fieldsOf[T]()
	}
	seen := map[string]bool{}
	for {
		objects, more, date, err := l.page(ctx, query)
		if err != nil {
			l.markerGone = query.Has("marker") && (gophercloud.ResponseCodeIs(err, http.StatusBadRequest) || gophercloud.ResponseCodeIs(err, http.StatusNotFound))
			return err
		}
		if l.clock.IsZero() && len(l.all) == 0 {
			l.clock = date
		}
		for _, o := range objects {
			if !isID(o.id()) || seen[o.id()] {
				return fmt.Errorf("%s: an object has no valid id, or is listed twice", l.name)
			}
			seen[o.id()] = true
		}
		l.all = append(l.all, objects...)
		if !more {
			return nil
		}
		query.Set("marker", l.all[len(l.all)-1].id())
	}
}

// fieldsOf returns the names of T's fields in JSON.
func fieldsOf[T any]() []string {
	var names []string
	for t, i := reflect.TypeFor[T](), 0; i < t.NumField(); i++ {
		names = append(names, t.Field(i).Tag.Get("json"))
	}
	return names
}

// page reads one page, within what may still be read of the collection.
func (l *listing[T]) page(ctx context.Context, query url.Values) (objects []T, more bool, clock time.Time, err error) {
	clock, err = l.session.get(ctx, l.api, l.path, query, func(body io.Reader) (err error) {
		if objects, more, err = page[T](l.metered(body), l.name, l.most.objects-int(l.read.objects.Load())); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		return nil
	})
	l.used.objects.Add(int64(len(objects)))
	switch {
	case int(l.read.bytes.Load()) > l.most.bytes:
		err = &upstream.TooLarge{Limit: l.most.bytes, What: "bytes of " + l.name}
	case errors.Is(err, errTooMany) || int(l.read.objects.Add(int64(len(objects)))) > l.most.objects:
		err = &upstream.TooLarge{Limit: l.most.objects, What: l.name}
	}
	return objects, more, clock, err
}

// metered counts the bytes that are read of an answer, and ends it where there are too many.
func (l *listing[T]) metered(body io.Reader) io.Reader {
	left := int64(l.most.bytes) - l.read.bytes.Load() + 1
	return io.TeeReader(io.LimitReader(body, left), counter{&l.read.bytes, &l.used.bytes})
}

// counter adds up the bytes that are written to it.
type counter []*atomic.Int64

func (c counter) Write(p []byte) (int, error) {
	for _, n := range c {
		n.Add(int64(len(p)))
	}
	return len(p), nil
}

var (
	errTooMany = errors.New("too many objects")
	errNoJSON  = errors.New("the answer isn't a JSON object")
)

// page reads one page of a listing, which may have so many objects, and says whether there
// is another one. It reads one object after the other: no answer is held as a whole, and one
// of few bytes can be of objects that take many.
func page[T any](body io.Reader, name string, most int) (objects []T, more bool, err error) {
	fields := map[string]json.RawMessage{name + "_links": nil, "links": nil, "truncated": nil}
	d := json.NewDecoder(body)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false, errNoJSON
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false, errNoJSON
		}
		if key == name {
			if objects != nil {
				return nil, false, fmt.Errorf("the answer holds two lists of %s", name)
			}
			if objects, err = array[T](d, name, most); err != nil {
				return nil, false, err
			}
			continue
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false, errNoJSON
		}
		if _, wanted := fields[key.(string)]; wanted {
			fields[key.(string)] = value
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, false, errNoJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false, errNoJSON
	}
	switch {
	case objects == nil:
		return nil, false, fmt.Errorf("the answer holds no list of %s", name)
	case string(fields["truncated"]) == "true": // Keystone's, by its option list_limit
		return nil, false, errors.New("the server left some out: raise Keystone's list_limit")
	}
	if more, err = links(fields[name+"_links"], fields["links"]); err != nil {
		return nil, false, err
	}
	if more && len(objects) == 0 {
		return nil, false, errors.New("an empty page isn't the last one")
	}
	return objects, more, nil
}

// array reads a list of at most so many objects.
func array[T any](d *json.Decoder, name string, most int) ([]T, error) {
	none := fmt.Errorf("the answer holds no list of %s", name)
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, none
	}
	objects := []T{}
	for d.More() {
		if len(objects) >= most {
			return nil, errTooMany
		}
		var o T
		if err := d.Decode(&o); err != nil {
			return nil, none
		}
		objects = append(objects, o)
	}
	if _, err := d.Token(); err != nil {
		return nil, none
	}
	return objects, nil
}

// one reads an answer that is one object.
func one[T any](body io.Reader, name string) (o T, err error) {
	var answer map[string]json.RawMessage
	d := json.NewDecoder(body)
	if err := d.Decode(&answer); err != nil {
		return o, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, errNoJSON
	}
	err = json.Unmarshal(answer[name], &o)
	return o, err
}

// links says whether links name a next page: a list of them as Octavia and Neutron have
// it, or an object as Keystone has it. Either may be missing.
func links(list, object json.RawMessage) (more bool, err error) {
	var rels []struct {
		Rel string `json:"rel"`
	}
	var next struct {
		Next string `json:"next"`
	}
	if list != nil {
		err = json.Unmarshal(list, &rels)
	}
	if object != nil {
		err = errors.Join(err, json.Unmarshal(object, &next))
	}
	if err != nil {
		return false, errors.New("the links to other pages can't be read")
	}
	for _, l := range rels {
		more = more || l.Rel == "next"
	}
	return more || next.Next != "", nil
}

// isID reports whether s can be an OpenStack id: a UUID, or one in hexadecimal without dashes.
func isID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
