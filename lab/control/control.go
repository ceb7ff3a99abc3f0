// Package control lets other commands of a checkout talk to its running lab,
// over a socket in the lab's directory.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/projectcontour/gimbal/lab/cluster"
)

// Status is what a running lab says of itself.
type Status struct {
	// Phase is "starting" or "ready".
	Phase    string
	Clusters []ClusterStatus
}

// ClusterStatus is one cluster's.
type ClusterStatus struct {
	Name, Server string
	// Running has the process ids, inside the lab, of the components that run.
	Running map[string]int
}

// Lab is what a Server serves.
type Lab interface {
	Status() Status
	Cluster(name string) (*cluster.Cluster, error)
}

// Serve answers on a socket at path until the process ends.
func Serve(path string, lab Lab) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for the lab's other commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("listen for the lab's other commands: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(lab.Status())
	})
	mux.HandleFunc("POST /clusters/{cluster}/{component}/{action}", func(w http.ResponseWriter, r *http.Request) {
		if err := act(r.Context(), lab, r.PathValue("cluster"), r.PathValue("component"), r.PathValue("action")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return nil
}

func act(ctx context.Context, lab Lab, clusterName, componentName, action string) error {
	c, err := lab.Cluster(clusterName)
	if err != nil {
		return err
	}
	name, err := cluster.Find(componentName)
	if err != nil {
		return err
	}
	switch action {
	case "stop":
		return c.StopComponent(name)
	case "start":
		return c.StartComponent(ctx, name)
	case "pause":
		return c.PauseComponent(name)
	case "resume":
		return c.ResumeComponent(name)
	default:
		return fmt.Errorf("there is no action %q", action)
	}
}

// Client talks to a running lab.
type Client struct{ http *http.Client }

// NewClient is a client of the lab whose socket is at path.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Status asks the lab how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	b, err := c.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// Act starts, stops, pauses or resumes a component of a cluster.
func (c *Client) Act(ctx context.Context, clusterName, component, action string) error {
	_, err := c.do(ctx, http.MethodPost, "/clusters/"+clusterName+"/"+component+"/"+action)
	return err
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("talk to the running lab: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("talk to the running lab: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", bytes.TrimSpace(b))
	}
	return b, nil
}
