package centraltest

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
)

// kind is one kind of object that a Cluster serves.
type kind struct {
	schema.GroupVersionKind
	resource   string
	namespaced bool
}

func kinds() []kind {
	of := func(group, version, name, resource string, namespaced bool) kind {
		return kind{schema.GroupVersionKind{Group: group, Version: version, Kind: name}, resource, namespaced}
	}
	return []kind{
		of("", "v1", "Service", "services", true),
		of("", "v1", "Secret", "secrets", true),
		of("", "v1", "Namespace", "namespaces", false),
		of("", "v1", "Node", "nodes", false),
		of("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
		of("coordination.k8s.io", "v1", "Lease", "leases", true),
		of("events.k8s.io", "v1", "Event", "events", true),
		of("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", false),
		of("gimbal.projectcontour.io", "v1alpha1", "UpstreamCluster", "upstreamclusters", true),
	}
}

func resourceOf(name string) string {
	all := kinds()
	return all[slices.IndexFunc(all, func(k kind) bool { return k.Kind == name })].resource
}

// ServeHTTP implements http.Handler.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // the end of a request is seen only when its body has been read
	if err != nil {
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if c.discover(w, parts) {
		return
	}
	request, of := parse(r, parts)
	c.mu.Lock()
	c.requests = append(c.requests, request)
	fault, missing := c.fault, c.missing[request.Resource]
	c.mu.Unlock()
	if missing || of.resource == "" {
		fail(w, apierrors.NewNotFound(group(request), request.Name))
		return
	}
	if fault != nil {
		if err := fault(r.Context(), request); err != nil {
			fail(w, err)
			return
		}
	}
	if request.Verb == "watch" {
		c.watch(w, r, request, of)
		return
	}
	o, err := c.serve(r, request, of, body)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, o)
}

// parse returns what a request is for.
func parse(r *http.Request, parts []string) (Request, kind) {
	request := Request{DryRun: r.URL.Query().Get("dryRun") != ""}
	groupOf := ""
	if parts[0] == "apis" {
		groupOf, parts = parts[1], parts[1:]
	}
	parts = parts[2:]
	if len(parts) > 2 && parts[0] == "namespaces" {
		request.Namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	request.Resource, request.Name, request.Subresource = parts[0], parts[1], parts[2]
	request.Verb = map[string]string{
		http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodGet: "get",
	}[r.Method]
	if request.Verb == "get" && request.Name == "" {
		request.Verb = "list"
		if r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1" {
			request.Verb = "watch"
		}
	}
	for _, k := range kinds() {
		if k.Group == groupOf && k.resource == request.Resource {
			return request, k
		}
	}
	return request, kind{}
}

// serve carries a request out.
func (c *Cluster) serve(r *http.Request, request Request, of kind, body []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch request.Verb {
	case "list":
		return c.list(r, request, of)
	case "get":
		o, err := c.get(request)
		if err != nil {
			return nil, err
		}
		return o.Object, nil
	case "delete":
		return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}, c.delete(request, body)
	case "patch":
		o, err := c.patch(request, body)
		if err != nil {
			return nil, err
		}
		return o.Object, nil
	}
	sent, _, err := c.decode.Decode(body, nil, nil)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o, err := c.generic(sent)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if request.Verb == "create" {
		o, err = c.create(request, o)
	} else {
		o, err = c.replace(request, o)
	}
	if err != nil {
		return nil, err
	}
	return o.Object, nil
}

// selects returns whether a request asks for an object.
func selects(r *http.Request, request Request) (func(*unstructured.Unstructured) bool, error) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return func(o *unstructured.Unstructured) bool {
		return o != nil && (request.Namespace == "" || o.GetNamespace() == request.Namespace) && selector.Matches(labels.Set(o.GetLabels()))
	}, nil
}

// list returns one page of a listing. The caller holds c.mu.
func (c *Cluster) list(r *http.Request, request Request, of kind) (any, error) {
	selected, err := selects(r, request)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	items, next := []any{}, ""
	for _, name := range slices.Sorted(maps.Keys(c.objects[request.Resource])) {
		o := c.objects[request.Resource][name]
		if !selected(o) || name <= query.Get("continue") {
			continue
		}
		if limit > 0 && len(items) == limit {
			next = nameOf(&unstructured.Unstructured{Object: items[limit-1].(map[string]any)})
			break
		}
		items = append(items, as(r, o.Object))
	}
	list := map[string]any{
		"apiVersion": of.GroupVersion().String(), "kind": of.Kind + "List", "items": items,
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(c.version), "continue": next},
	}
	if partial(r) {
		list["apiVersion"], list["kind"] = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	return list, nil
}

// partial reports whether only the metadata of objects are asked for.
func partial(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

// as returns an object as it was asked for.
func as(r *http.Request, o map[string]any) map[string]any {
	if !partial(r) {
		return o
	}
	return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]}
}

func fail(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	answer(w, int(s.Code), s)
}

func answer(w http.ResponseWriter, code int, o any) {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(data)
}
