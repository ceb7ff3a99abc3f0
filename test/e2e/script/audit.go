package script

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"
)

// mark makes writes count from now on.
func mark(s *story, args []string) (string, error) {
	if len(args) != 0 {
		return "", usage("mark")
	}
	end, err := s.Central.auditEnd(s.ctx)
	s.marked = end
	return "", err
}

// writes prints what the story's agents wrote to the central cluster since the mark,
// as its audit log has it, one "verb resource namespace/name" a line. Leases
// aren't counted: replicas keep them.
func writes(s *story, args []string) (string, error) {
	if len(args) != 0 {
		return "", usage("writes")
	}
	end, err := s.Central.auditEnd(s.ctx)
	if err != nil {
		return "", err
	}
	f, err := os.Open(s.Central.Audit)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b strings.Builder
	user := "system:serviceaccount:" + s.namespace + ":" + agentAccount
	lines := bufio.NewReader(io.NewSectionReader(f, s.marked, end-s.marked))
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return "", err
		}
		rehearsal := strings.Contains(e.RequestURI, "dryRun=All")
		if o := e.Object; e.User.Username == user && o.Resource != "leases" && !rehearsal {
			fmt.Fprintf(&b, "%s %s %s/%s\n", e.Verb, strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/"), o.Namespace, o.Name)
		}
	}
}

type auditEvent struct {
	Verb, RequestURI string
	User             struct{ Username string }
	// Object is what the request was about.
	Object struct{ Resource, Subresource, Namespace, Name string } `json:"objectRef"`
}

// auditEnd returns the length of the audit log once it holds all requests that have
// been answered by now: those before a request of which the name is found in it.
func (c *Cluster) auditEnd(ctx context.Context) (int64, error) {
	if c.Audit == "" {
		return 0, fmt.Errorf("%s has no audit log", c.Name)
	}
	name := fmt.Sprintf("audit-%x", rand.Uint64())
	info, err := os.Stat(c.Audit)
	if err != nil {
		return 0, err
	}
	// There is no such object: what counts is that the request is logged.
	_ = c.Do(ctx, http.MethodDelete, "/api/v1/namespaces/default/configmaps/"+name, nil, nil)
	f, err := os.Open(c.Audit)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	at := info.Size()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		b, err := io.ReadAll(io.NewSectionReader(f, at, 1<<30))
		if err != nil {
			return 0, err
		}
		// The log may have grown since in the middle of a line.
		if i := strings.Index(string(b), name); i >= 0 {
			if end := strings.IndexByte(string(b[i:]), '\n'); end >= 0 {
				return at + int64(i+end+1), nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return 0, errors.New("the audit log doesn't go on")
}
