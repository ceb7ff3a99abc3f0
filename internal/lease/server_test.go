package lease

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// server keeps Leases as an API server does, and can be made to fail or to hang.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	leases  map[string]*coordinationv1.Lease
	version int
	// fault answers a request in the server's place where it returns true.
	fault func(http.ResponseWriter, *http.Request) bool
}

func newServer(t *testing.T) (*server, kubernetes.Interface) {
	t.Helper()
	s := &server{leases: map[string]*coordinationv1.Lease{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: s.URL, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, client
}

// inject sets the fault; nil heals.
func (s *server) inject(fault func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func unavailable(w http.ResponseWriter, _ *http.Request) bool {
	answer(w, status(http.StatusInternalServerError, metav1.StatusReasonInternalError))
	return true
}

func hang(_ http.ResponseWriter, r *http.Request) bool {
	<-r.Context().Done()
	return true
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var sent coordinationv1.Lease
	if r.Method != http.MethodGet {
		// The end of a request is seen only when its body has been read.
		_ = json.NewDecoder(r.Body).Decode(&sent)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := path.Base(r.URL.Path)
	switch known := s.leases[name]; {
	case r.Method == http.MethodPost && s.leases[sent.Name] != nil:
		answer(w, status(http.StatusConflict, metav1.StatusReasonAlreadyExists))
	case r.Method == http.MethodPost:
		answer(w, s.store(&sent))
	case known == nil:
		answer(w, status(http.StatusNotFound, metav1.StatusReasonNotFound))
	case r.Method == http.MethodPut && known.ResourceVersion != sent.ResourceVersion:
		answer(w, status(http.StatusConflict, metav1.StatusReasonConflict))
	case r.Method == http.MethodPut:
		answer(w, s.store(&sent))
	case r.Method == http.MethodDelete:
		delete(s.leases, name)
		answer(w, &metav1.Status{Status: metav1.StatusSuccess})
	default:
		answer(w, known)
	}
}

func (s *server) store(l *coordinationv1.Lease) *coordinationv1.Lease {
	s.version++
	l.ResourceVersion = strconv.Itoa(s.version)
	s.leases[l.Name] = l
	return l
}

// take gives a Lease to a holder, whoever has it, until now+d.
func (s *server) take(upstream, holder string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds, now := int32(d/time.Second), metav1.NowMicro()
	s.store(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: Name(upstream)},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now, AcquireTime: &now},
	})
}

func (s *server) holder(upstream string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[Name(upstream)]; l != nil && l.Spec.HolderIdentity != nil {
		return *l.Spec.HolderIdentity
	}
	return ""
}

func status(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason}
}

func answer(w http.ResponseWriter, o any) {
	w.Header().Set("Content-Type", "application/json")
	switch o := o.(type) {
	case *metav1.Status:
		o.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		if o.Code != 0 {
			w.WriteHeader(int(o.Code))
		}
	case *coordinationv1.Lease:
		o.TypeMeta = metav1.TypeMeta{Kind: "Lease", APIVersion: "coordination.k8s.io/v1"}
	}
	_ = json.NewEncoder(w).Encode(o)
}
