package centraltest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// watch sends what happens to the objects that a request selects, until it ends.
func (c *Cluster) watch(w http.ResponseWriter, r *http.Request, request Request, of kind) {
	selected, err := selects(r, request)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	stream := json.NewEncoder(w)
	send := func(kind string, o map[string]any) {
		_ = stream.Encode(map[string]any{"type": kind, "object": as(r, o)}) // the end of the connection ends the request
	}
	at := c.begin(r, request, of, selected, send)
	for {
		_ = http.NewResponseController(w).Flush()
		c.mu.Lock()
		from, _ := slices.BinarySearchFunc(c.log, at+1, func(e event, v int) int { return e.version - v })
		events, more := slices.Clone(c.log[from:]), c.more
		c.mu.Unlock()
		for _, e := range events {
			at = e.version
			if e.resource == request.Resource {
				sendEvent(e, selected, send)
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// begin sends what a streaming list begins with, and returns the version at which the watch goes on.
func (c *Cluster) begin(r *http.Request, request Request, of kind, selected func(*unstructured.Unstructured) bool, send func(string, map[string]any)) int {
	query := r.URL.Query()
	at, _ := strconv.Atoi(query.Get("resourceVersion"))
	if query.Get("sendInitialEvents") != "true" {
		return at
	}
	c.mu.Lock()
	var objects []*unstructured.Unstructured
	for _, o := range c.objects[request.Resource] {
		if selected(o) {
			objects = append(objects, o)
		}
	}
	at = c.version
	c.mu.Unlock()
	for _, o := range objects {
		send("ADDED", o.Object)
	}
	send("BOOKMARK", map[string]any{
		"apiVersion": of.GroupVersion().String(), "kind": of.Kind,
		"metadata": map[string]any{
			"resourceVersion": strconv.Itoa(at),
			"annotations":     map[string]any{metav1.InitialEventsAnnotationKey: "true"},
		},
	})
	return at
}

// sendEvent sends an event as it looks to one that selects objects.
func sendEvent(e event, selected func(*unstructured.Unstructured) bool, send func(string, map[string]any)) {
	was, is := selected(e.before), selected(e.after)
	switch {
	case was && is:
		send("MODIFIED", e.after.Object)
	case is:
		send("ADDED", e.after.Object)
	case was:
		last := e.before.DeepCopy()
		last.SetResourceVersion(strconv.Itoa(e.version))
		send("DELETED", last.Object)
	}
}

// discover answers what clients ask to learn which resources there are, and reports whether
// that was asked.
func (c *Cluster) discover(w http.ResponseWriter, parts []string) bool {
	switch path := strings.Join(parts, "/"); {
	case path == "api":
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case path == "apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, k := range kinds() {
			if k.Group != "" {
				list.Groups = append(list.Groups, apiGroup(k))
			}
		}
		answer(w, http.StatusOK, list)
	case path == "api/v1":
		c.resources(w, "v1")
	case parts[0] == "apis" && len(parts) == 2:
		all := kinds()
		if i := slices.IndexFunc(all, func(k kind) bool { return k.Group == parts[1] }); i >= 0 {
			answer(w, http.StatusOK, apiGroup(all[i]))
			return true
		}
		return false
	case parts[0] == "apis" && len(parts) == 3:
		c.resources(w, parts[1]+"/"+parts[2])
	default:
		return false
	}
	return true
}

func apiGroup(k kind) metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: k.GroupVersion().String(), Version: k.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     k.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
	}
}

// resources answers with the resources of a group and version.
func (c *Cluster) resources(w http.ResponseWriter, version string) {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range kinds() {
		if k.GroupVersion().String() == version && !c.missing[k.resource] {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.resource, Kind: k.Kind, Namespaced: k.namespaced,
				Verbs: metav1.Verbs{"get", "list", "watch", "create", "update", "patch", "delete"},
			})
		}
	}
	answer(w, http.StatusOK, list)
}
