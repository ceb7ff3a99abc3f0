package bound_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/projectcontour/gimbal/internal/bound"
)

// TestDiscoveryEndsWithTheContext has discovery ask servers that don't answer, or not to the end.
func TestDiscoveryEndsWithTheContext(t *testing.T) {
	tests := map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				handler(w, r)
			}))
			defer server.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			client, err := discovery.NewDiscoveryClientForConfig(bound.To(ctx, &rest.Config{Host: server.URL}))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := client.ServerGroups()
				done <- err
			}()
			<-asked
			cancel(errors.New("enough"))
			select {
			case err := <-done:
				if err == nil {
					t.Error("it had an answer")
				}
			case <-time.After(10 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}

func TestRequestsThatAreAnsweredAreLeftAlone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"major":"1","minor":"37"}`)
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	client, err := discovery.NewDiscoveryClientForConfig(bound.To(t.Context(), config))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := client.ServerVersion(); err != nil || v.Minor != "37" {
		t.Errorf("the version is %v, %v", v, err)
	}
	if config.WrapTransport != nil {
		t.Error("the configuration that was given is changed")
	}
}
