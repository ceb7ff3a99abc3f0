package centraltest

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
)

// event is one change of an object: before is nil for one that is new, after for one that is gone.
type event struct {
	version       int
	resource      string
	before, after *unstructured.Unstructured
}

// generic returns an object as the store keeps it.
func (c *Cluster) generic(o runtime.Object) (*unstructured.Unstructured, error) {
	kinds, _, err := c.scheme.ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		return nil, err
	}
	u.SetGroupVersionKind(kinds[0])
	return u, nil
}

func nameOf(o *unstructured.Unstructured) string { return o.GetNamespace() + "/" + o.GetName() }

// put stores an object as it comes, and gives it a version and what else it lacks. The
// caller holds c.mu.
func (c *Cluster) put(resource string, o *unstructured.Unstructured) {
	if c.objects[resource] == nil {
		c.objects[resource] = map[string]*unstructured.Unstructured{}
	}
	before := c.objects[resource][nameOf(o)]
	if o.GetUID() == "" {
		c.uids++
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", c.uids)))
	}
	if created := o.GetCreationTimestamp(); created.IsZero() {
		o.SetCreationTimestamp(metav1.Now())
	}
	if before == nil || !reflect.DeepEqual(before.Object["spec"], o.Object["spec"]) {
		o.SetGeneration(o.GetGeneration() + 1)
	}
	c.version++
	o.SetResourceVersion(strconv.Itoa(c.version))
	c.objects[resource][nameOf(o)] = o
	c.tell(event{version: c.version, resource: resource, before: before, after: o})
}

// remove forgets an object. The caller holds c.mu.
func (c *Cluster) remove(resource string, o *unstructured.Unstructured) {
	delete(c.objects[resource], nameOf(o))
	c.version++
	last := o.DeepCopy()
	last.SetResourceVersion(strconv.Itoa(c.version))
	c.tell(event{version: c.version, resource: resource, before: last})
}

func (c *Cluster) tell(e event) {
	c.log = append(c.log, e)
	close(c.more)
	c.more = make(chan struct{})
}

func group(r Request) schema.GroupResource { return schema.GroupResource{Resource: r.Resource} }

// get returns a stored object. The caller holds c.mu.
func (c *Cluster) get(r Request) (*unstructured.Unstructured, error) {
	if o := c.objects[r.Resource][r.Namespace+"/"+r.Name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(group(r), r.Name)
}

// create stores a new object. The caller holds c.mu.
func (c *Cluster) create(r Request, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if r.Namespace != "" {
		o.SetNamespace(r.Namespace)
		mirrored := r.Resource == "services" || r.Resource == "endpointslices"
		if mirrored && c.objects["namespaces"]["/"+r.Namespace] == nil {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, r.Namespace)
		}
	}
	if c.objects[r.Resource][nameOf(o)] != nil {
		return nil, apierrors.NewAlreadyExists(group(r), o.GetName())
	}
	c.admit(r.Resource, o)
	if !r.DryRun {
		c.put(r.Resource, o)
	}
	return o, nil
}

// replace stores an object in place of the one of the name. The caller holds c.mu.
func (c *Cluster) replace(r Request, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	old, err := c.get(r)
	if err != nil {
		return nil, err
	}
	if v := o.GetResourceVersion(); v != "" && v != old.GetResourceVersion() || o.GetUID() != "" && o.GetUID() != old.GetUID() {
		return nil, apierrors.NewConflict(group(r), r.Name, fmt.Errorf("it is at version %s", old.GetResourceVersion()))
	}
	switch {
	case r.Subresource == "status":
		status := o.Object["status"]
		o = old.DeepCopy()
		o.Object["status"] = status
	case r.Resource == "upstreamclusters":
		o.Object["status"] = old.Object["status"]
	}
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetGeneration(old.GetGeneration())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetResourceVersion(old.GetResourceVersion())
	c.admit(r.Resource, o)
	switch {
	case r.DryRun:
	case equality.Semantic.DeepEqual(o.Object, old.Object): // no change, no new version
	case o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0:
		c.remove(r.Resource, old)
	default:
		c.put(r.Resource, o)
	}
	return o, nil
}

// patch changes an object by a JSON merge patch. The caller holds c.mu.
func (c *Cluster) patch(r Request, body []byte) (*unstructured.Unstructured, error) {
	old, err := c.get(r)
	if err != nil {
		return nil, err
	}
	var change map[string]any
	if err := json.Unmarshal(body, &change); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := old.DeepCopy()
	o.Object = merge(o.Object, change)
	return c.replace(r, o)
}

func merge(into, change map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for key, v := range change {
		switch v := v.(type) {
		case nil:
			delete(into, key)
		case map[string]any:
			inner, _ := into[key].(map[string]any)
			into[key] = merge(inner, v)
		default:
			into[key] = v
		}
	}
	return into
}

// delete deletes an object, or has its finalizers do so. The caller holds c.mu.
func (c *Cluster) delete(r Request, body []byte) error {
	old, err := c.get(r)
	if err != nil {
		return err
	}
	var options metav1.DeleteOptions
	if len(body) > 0 {
		if _, _, err := c.decode.Decode(body, nil, &options); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if p := options.Preconditions; p != nil &&
		(p.UID != nil && *p.UID != old.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion()) {
		return apierrors.NewConflict(group(r), r.Name, fmt.Errorf("it is %s at version %s", old.GetUID(), old.GetResourceVersion()))
	}
	switch {
	case r.DryRun:
	case len(old.GetFinalizers()) == 0:
		c.remove(r.Resource, old)
	case old.GetDeletionTimestamp() == nil:
		o := old.DeepCopy()
		now := metav1.NewTime(time.Now().Truncate(time.Second))
		o.SetDeletionTimestamp(&now)
		c.put(r.Resource, o)
	}
	return nil
}

// admit lets the cluster's policy change an object. The caller holds c.mu.
func (c *Cluster) admit(resource string, o *unstructured.Unstructured) {
	if c.mutate != nil {
		c.mutate(resource, o)
	}
}
