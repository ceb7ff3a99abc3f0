package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// pageSize is how many objects one request of a listing asks for. A server may have a lower limit.
const pageSize = 500

// object is an element of a collection.
type object interface{ id() string }

// collection is one that is listed.
type collection struct {
	api, path string
	name      string // of the answer's field
	objects   int    // the most of them
	bytes     int    // the most of all answers
	// read is what has been read already of the objects and bytes that there may be. Several listings may share it.
	read *usage
}

type usage struct{ objects, bytes atomic.Int64 }

// list returns all objects of a collection and the server's clock at the first page, or
// an error: whatever casts doubt on its being whole is one.
//
// Of the server's link to a next page only its being there counts: Octavia's leave out
// filters, and a link may lead where the token mustn't go.
func list[T object](ctx context.Context, s *session, c collection) (all []T, clock time.Time, err error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	seen := map[string]bool{}
	for {
		var objects []T
		var more bool
		date, err := s.get(ctx, c.api, c.path, query, func(body io.Reader) (err error) {
			if objects, more, err = page[T](c.metered(body), c.name, c.objects-int(c.read.objects.Load())); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
		switch {
		case int(c.read.bytes.Load()) > c.bytes:
			return nil, clock, &upstream.TooLarge{Limit: c.bytes, What: "bytes of " + c.name}
		case errors.Is(err, errTooMany) || int(c.read.objects.Add(int64(len(objects)))) > c.objects:
			return nil, clock, &upstream.TooLarge{Limit: c.objects, What: c.name}
		case err != nil:
			return nil, clock, err
		}
		if clock.IsZero() && len(all) == 0 {
			clock = date
		}
		for _, o := range objects {
			if !isID(o.id()) || seen[o.id()] {
				return nil, clock, fmt.Errorf("%s: an object has no valid id, or is listed twice", c.name)
			}
			seen[o.id()] = true
		}
		all = append(all, objects...)
		if !more {
			return all, clock, nil
		}
		query.Set("marker", all[len(all)-1].id())
	}
}

// metered counts the bytes that are read of an answer, and ends it where there are too many.
func (c collection) metered(body io.Reader) io.Reader {
	left := int64(c.bytes) - c.read.bytes.Load() + 1
	return io.TeeReader(io.LimitReader(body, left), counter{&c.read.bytes})
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
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
