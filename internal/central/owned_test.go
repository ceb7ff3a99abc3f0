package central_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcontour/gimbal/internal/central"
	"github.com/projectcontour/gimbal/internal/central/centraltest"
	"github.com/projectcontour/gimbal/internal/mirror"
)

func TestRemoveAllRemovesTheOwnersAlone(t *testing.T) {
	w := newWriting(t, said(1, 2))
	other := ownedService("", "")
	other.Name, other.Labels[mirror.LabelBackend], other.Annotations[mirror.AnnotationSource] = "us-west-web", "us-west", "us-west/team-a/web"
	disowned := ownedService("", "")
	disowned.Name = "someone-elses"
	w.cluster.Add(t, other, disowned)
	options := central.RemoveOptions{
		Client: w.client, Owner: central.Upstream("us-east"), Leads: func() bool { return true }, Count: func(_, _, _ string) {},
	}
	w.cluster.Inject(refuse(is("delete", "services")))
	if err := central.RemoveAll(t.Context(), options); err == nil {
		t.Error("a refused deletion is no error")
	}
	w.cluster.Inject(refuse(is("list", "services")))
	if err := central.RemoveAll(t.Context(), options); err == nil {
		t.Error("a listing that fails is no error")
	}
	w.cluster.Inject(refuse(is("list", "endpointslices")))
	if err := central.RemoveAll(t.Context(), options); err == nil {
		t.Error("a listing of slices that fails is no error")
	}
	w.cluster.Inject(nil)
	if err := central.RemoveAll(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	list, err := w.client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 || len(w.holds(t)) != 0 {
		t.Errorf("left: %v, slices %v (%v)", list.Items, w.holds(t), err)
	}
}

func TestListNamespacesLeavesOutThoseThatEnd(t *testing.T) {
	cluster := centraltest.New(t)
	cluster.AddNamespaces(t, "team-a")
	now := metav1.Now()
	cluster.Add(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-b", DeletionTimestamp: &now, Finalizers: []string{"x/y"}}})
	there, err := central.ListNamespaces(t.Context(), cluster.Client(t))
	if err != nil || len(there) != 1 || !there["team-a"] {
		t.Errorf("namespaces %v, %v", there, err)
	}
}
