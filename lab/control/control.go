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
	"net/netip"
	"os"
	"time"

	"github.com/projectcontour/gimbal/lab/member"
)

// Status is what a running lab says of itself.
type Status struct {
	// Phase is "starting" or "ready".
	Phase    string
	Clusters []ClusterStatus
}

// ClusterStatus is one cluster's, or the OpenStack's.
type ClusterStatus struct {
	Name, Server string
	// Components are all that can be stopped.
	Components []string
	// Running has the process ids, inside the lab, of the components that run.
	Running map[string]int
}

// Lab is what a Server serves.
type Lab interface {
	Status() Status
	// Machine returns a cluster, or the OpenStack, that is ready, and the full name of a
	// component of it.
	Machine(name, component string) (Machine, string, error)
	StartMember(ctx context.Context, m member.Member) error
	StopMember(at netip.AddrPort) error
}

// Machine is what has components: a cluster, or an OpenStack.
type Machine interface {
	StartComponent(ctx context.Context, name string) error
	StopComponent(name string) error
	PauseComponent(name string) error
	ResumeComponent(name string) error
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
		answer(w, act(r.Context(), lab, r.PathValue("cluster"), r.PathValue("component"), r.PathValue("action")))
	})
	mux.HandleFunc("PUT /members", func(w http.ResponseWriter, r *http.Request) {
		var m member.Member
		err := json.NewDecoder(r.Body).Decode(&m)
		if err == nil {
			err = lab.StartMember(r.Context(), m)
		}
		answer(w, err)
	})
	mux.HandleFunc("DELETE /members/{at}", func(w http.ResponseWriter, r *http.Request) {
		at, err := netip.ParseAddrPort(r.PathValue("at"))
		if err == nil {
			err = lab.StopMember(at)
		}
		answer(w, err)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return nil
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

func act(ctx context.Context, lab Lab, clusterName, componentName, action string) error {
	c, name, err := lab.Machine(clusterName, componentName)
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
	b, err := c.do(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// Act starts, stops, pauses or resumes a component of a cluster or of the OpenStack.
func (c *Client) Act(ctx context.Context, clusterName, component, action string) error {
	_, err := c.do(ctx, http.MethodPost, "/clusters/"+clusterName+"/"+component+"/"+action, nil)
	return err
}

// StartMember starts a process that a load balancer can have as a member.
func (c *Client) StartMember(ctx context.Context, m member.Member) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, "/members", bytes.NewReader(b))
	return err
}

// StopMember ends the process that listens there.
func (c *Client) StopMember(ctx context.Context, at netip.AddrPort) error {
	_, err := c.do(ctx, http.MethodDelete, "/members/"+at.String(), nil)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, body)
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
