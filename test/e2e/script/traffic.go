package script

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// enough is how many requests find every pod of a story.
const enough = 40

// send sends requests for a host through Envoy, and returns what the answers say in a
// field such as cluster, pod, version or port; for others than 200, their status.
func (s *story) send(host, field string, count int) (map[string]int, error) {
	seen := map[string]int{}
	for range count {
		answer, err := s.ask(s.ctx, host)
		if err != nil {
			return nil, err
		}
		if answer["status"] != "200" {
			field = "status"
		}
		seen[answer[field]]++
	}
	return seen, nil
}

// answers prints the different values that the answers have in a field.
func answers(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("answers HOST FIELD")
	}
	seen, err := s.send(args[0], args[1], enough)
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ") + "\n", err
}

// pods prints how many pods answer.
func pods(s *story, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage("pods HOST")
	}
	seen, err := s.send(args[0], "pod", enough)
	for value := range seen {
		if _, err := strconv.Atoi(value); err == nil {
			return "", fmt.Errorf("%s is answered with %s", args[0], value)
		}
	}
	return fmt.Sprintln(len(seen)), err
}

// ask sends one request through Envoy. The answer is what the echo application says
// of itself, and the status.
func (s *story) ask(ctx context.Context, host string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return nil, err
	}
	res, err := s.tier().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	answer := map[string]string{}
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, &answer); err != nil {
			return nil, fmt.Errorf("%s: %w in %q", host, err, b)
		}
	}
	answer["status"] = strconv.Itoa(res.StatusCode)
	return answer, nil
}

// tier returns a client for which every host is at Envoy's address.
func (s *story) tier() *http.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		s.client = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, s.Tier)
			},
		}}
	}
	return s.client
}

// traffic is a stream of requests, one after the other, and what became of them.
type traffic struct {
	cancel context.CancelFunc
	done   chan struct{}
	// begun and telling are closed after the first request, and after enough of them.
	begun, telling chan struct{}

	sent, failed int
	first, last  time.Time // of the failures
	reasons      map[string]int
}

const (
	// rate is how many requests a second there are at most in a stream.
	rate = 50
	// fewest is how many a stream has at least.
	fewest = 50
)

// runTraffic starts a stream of requests, or stops it and prints how many failed, and
// in how long a time. Without a LIMIT for that time none may fail.
func runTraffic(s *story, args []string) (string, error) {
	switch {
	case len(args) == 2 && args[0] == "start":
		return "", s.startTraffic(args[1])
	case len(args) == 2 && args[0] == "stop":
		return s.stopTraffic(args[1], 0)
	case len(args) == 3 && args[0] == "stop":
		limit, err := time.ParseDuration(args[2])
		if err != nil {
			return "", err
		}
		return s.stopTraffic(args[1], limit)
	}
	return "", usage("traffic start HOST, or traffic stop HOST [LIMIT]")
}

func (s *story) startTraffic(host string) error {
	s.mu.Lock()
	_, running := s.traffic[host]
	s.mu.Unlock()
	if running {
		return fmt.Errorf("traffic to %s runs already", host)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	t := &traffic{
		cancel: cancel, done: make(chan struct{}), begun: make(chan struct{}), telling: make(chan struct{}), reasons: map[string]int{},
	}
	s.mu.Lock()
	s.traffic[host] = t
	s.mu.Unlock()
	s.atEnd(func(testscript.T) { cancel(); <-t.done })
	go t.run(ctx, s, host)
	select {
	case <-t.begun:
	case <-t.done:
	}
	return nil
}

// run sends requests until ctx ends.
func (t *traffic) run(ctx context.Context, s *story, host string) {
	defer close(t.done)
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for {
		start := time.Now()
		answer, err := s.ask(ctx, host)
		if ctx.Err() != nil {
			return
		}
		reason := answer["status"]
		if err != nil {
			reason = err.Error()
		}
		if t.sent++; reason != "200" {
			if t.failed++; t.failed == 1 {
				t.first = start
			}
			t.last = time.Now()
			t.reasons[reason]++
		}
		switch t.sent {
		case 1:
			close(t.begun)
		case fewest:
			close(t.telling)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// stopTraffic ends the stream; requests may have failed for so long.
func (s *story) stopTraffic(host string, limit time.Duration) (string, error) {
	s.mu.Lock()
	t := s.traffic[host]
	delete(s.traffic, host)
	s.mu.Unlock()
	if t == nil {
		return "", fmt.Errorf("no traffic to %s runs", host)
	}
	select {
	case <-t.telling:
	case <-time.After(time.Minute):
		return "", fmt.Errorf("there are too few requests to %s to tell", host)
	}
	t.cancel()
	<-t.done
	within := t.last.Sub(t.first).Round(time.Millisecond)
	out := fmt.Sprintf("%d requests, %d failed within %s %v\n", t.sent, t.failed, within, t.reasons)
	if t.failed > 0 && within >= limit {
		return out, fmt.Errorf("requests may fail within %s: %s", limit, out)
	}
	return out, nil
}
