package central

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/projectcontour/gimbal/internal/mirror"
)

// observed is a View that runs, and what it told.
type observed struct {
	*View
	mu      sync.Mutex
	live    []mirror.Key
	listed  []mirror.Key
	updates int
}

func (o *observed) update(relisted bool, change func() []mirror.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := change()
	o.updates++
	if relisted {
		o.listed = append(o.listed, keys...)
	} else {
		o.live = append(o.live, keys...)
	}
}

func (o *observed) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live, o.listed = nil, nil
}

func (o *observed) told(key mirror.Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.live, key)
}

func (o *observed) toldByListing(key mirror.Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.listed, key)
}

// unfed returns a View of a cluster that doesn't run.
func unfed(c *cluster) *observed {
	o := &observed{}
	o.View = NewView(ViewOptions{Client: c.client, Owner: Upstream("us-east"), Update: o.update})
	return o
}

// start runs a view until the test ends, and returns when it is complete and watches.
func start(t *testing.T, c *cluster, o *observed) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); o.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-o.Complete()
	eventually(t, "watching", func() bool { return c.watched("services", "endpointslices") })
}

func fed(t *testing.T, c *cluster) *observed {
	t.Helper()
	o := unfed(c)
	start(t, c, o)
	return o
}

func version(o *corev1.Service) string {
	if o == nil {
		return ""
	}
	return o.ResourceVersion
}

// Someone who removes the annotation alone has the name: the key has to be looked at again.
func TestDisownedObjectIsTold(t *testing.T) {
	for name, object := range map[string]func() runtime.Object{
		"Service": func() runtime.Object { return service(web) },
		"slice":   func() runtime.Object { return slice(web, "us-east-web-1", 1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster()
			o := object()
			c.put(o)
			v := fed(t, c)
			v.forget()
			accessor(o).SetAnnotations(nil)
			c.put(o)
			eventually(t, "the key of a disowned object", func() bool { return v.told(web) })
			if len(v.Keys()) != 0 {
				t.Errorf("holds %v, which is foreign now", v.Keys())
			}
			v.forget()
			c.put(object())
			eventually(t, "the key of an object that is ours again", func() bool { return v.told(web) && len(v.Keys()) == 1 })
		})
	}
}

func TestDropTakesTheSameObjectOnly(t *testing.T) {
	v := unfed(newCluster())
	first, second := service(web), service(web)
	first.UID, second.UID = "a", "b"
	v.Put(second)
	if v.Drop(first); !v.Holding(web).Service {
		t.Error("the end of an earlier object of the name took the present one away")
	}
	if v.Drop(second); v.Holding(web).Service {
		t.Error("a deleted Service stays")
	}
	s := slice(web, "us-east-web-1", 1, 1)
	v.Put(s.DeepCopy())
	if v.Drop(s); len(v.Keys()) != 0 {
		t.Error("a deleted slice stays")
	}
}

// What a write answered while a listing was under way is newer than the listing.
func TestListingKeepsNewerAnswers(t *testing.T) {
	created, deleted := mirror.Key{Namespace: "team-a", Name: "created"}, mirror.Key{Namespace: "team-a", Name: "deleted"}
	c := newCluster()
	first := c.put(service(web)).(*corev1.Service)
	gone := c.put(service(deleted)).(*corev1.Service)
	v := unfed(c)
	v.Put(first.DeepCopy())
	v.Put(gone.DeepCopy())
	answer := func(o *corev1.Service, ahead int) *corev1.Service {
		o = o.DeepCopy()
		o.ResourceVersion = strconv.Itoa(c.version + ahead)
		return o
	}
	changed, made := answer(first, 1), answer(service(created), 2)
	made.UID = "new"
	c.listing = func(resource string) {
		if resource == "services" {
			v.Put(changed.DeepCopy())
			v.Put(made.DeepCopy())
			v.Drop(gone)
		}
	}
	start(t, c, v)
	if got := version(v.Objects(web).Service); got != changed.ResourceVersion {
		t.Errorf("holds version %s of a Service that was updated as %s", got, changed.ResourceVersion)
	}
	if !v.Holding(created).Service {
		t.Error("the listing took a Service away that was created after it")
	}
	if v.Holding(deleted).Service {
		t.Error("the listing brought a Service back that was deleted after it")
	}
}

func TestListingRemovesWhatIsGone(t *testing.T) {
	c := newCluster()
	c.put(service(web))
	c.put(slice(web, "us-east-web-1", 1, 1))
	v := fed(t, c)
	c.set(func() { c.deaf = true })
	c.remove(service(web))
	v.forget()
	v.Relist()
	eventually(t, "the listing", func() bool { return v.toldByListing(web) })
	if v.Holding(web).Service || len(v.Objects(web).Slices) != 1 {
		t.Errorf("holds %v", v.Objects(web))
	}
}

// A central etcd that is restored has objects of lower versions than the view's, and watches hear nothing of it.
func TestRestoredClusterIsListedAsItIs(t *testing.T) {
	back, lost := mirror.Key{Namespace: "team-a", Name: "back"}, mirror.Key{Namespace: "team-a", Name: "lost"}
	c := newCluster()
	old := c.put(service(web)).(*corev1.Service)
	c.put(service(back))
	restore := c.backup()
	v := fed(t, c)
	c.put(service(web))
	c.put(service(lost))
	c.remove(service(back))
	eventually(t, "the changes", func() bool { return v.Holding(lost).Service && !v.Holding(back).Service })
	restore()
	v.Relist()
	eventually(t, "the state that was restored", func() bool {
		return version(v.Objects(web).Service) == old.ResourceVersion && v.Holding(back).Service && !v.Holding(lost).Service
	})
	eventually(t, "watching again", func() bool { return c.watched("services", "endpointslices") })
	api := mirror.Key{Namespace: "team-a", Name: "api"}
	c.put(service(api))
	eventually(t, "a change after the restore", func() bool { return v.Holding(api).Service })
}

// A listing in pages that own writes overtake isn't one of a restored cluster.
func TestPagesAreOneListing(t *testing.T) {
	created := mirror.Key{Namespace: "team-a", Name: "created"}
	c := newCluster()
	for i := range 1200 {
		c.put(service(mirror.Key{Namespace: "team-a", Name: "web" + strconv.Itoa(i)}))
	}
	v := unfed(c)
	page := 0
	c.listing = func(resource string) {
		if resource != "services" {
			return
		}
		if page++; page == 1 {
			made := service(created)
			made.UID, made.ResourceVersion = "new", strconv.Itoa(c.version+1)
			v.Put(made)
		}
	}
	start(t, c, v)
	if c.listings("services") < 2 || !v.Holding(created).Service {
		t.Errorf("after %d pages, the Service that was created after the first one is there: %t", c.listings("services"), v.Holding(created).Service)
	}
}

// A restore can raise the revision (etcdutl --bump-revision) and leave the objects' versions as they were.
func TestRestoredClusterWithARaisedRevision(t *testing.T) {
	c := newCluster()
	old := c.put(service(web)).(*corev1.Service)
	restore := c.backup()
	v := fed(t, c)
	changed := c.put(service(web)).(*corev1.Service)
	eventually(t, "the change", func() bool { return version(v.Objects(web).Service) == changed.ResourceVersion })
	restore()
	c.set(func() { c.version += 1000 })
	v.Relist()
	eventually(t, "the state that was restored", func() bool { return version(v.Objects(web).Service) == old.ResourceVersion })
}

func TestUnexpectedObjectsAreErrors(t *testing.T) {
	v := unfed(newCluster())
	s := &store[*corev1.Service]{view: v.View, kind: services, trim: mirror.TrimService, objects: v.View.services}
	node := &corev1.Node{}
	_, trimErr := s.Transformer()(node)
	for name, err := range map[string]error{
		"add": s.Add(node), "delete": s.Delete(node), "replace": s.Replace([]any{node}, "1"), "trim": trimErr,
	} {
		if err == nil {
			t.Errorf("%s: a Node is taken", name)
		}
	}
	if err := s.Resync(); err != nil {
		t.Error(err)
	}
}
