package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"
)

const memberUsage = "member start ADDRESS:PORT NAME, member stop ADDRESS:PORT, or member tls PORT NAME"

// member starts and ends what load balancers can have as members: the lab's echo
// application or, at the lab's own address ($LAB), one that speaks TLS.
func member(s *story, args []string) (string, error) {
	switch {
	case len(args) == 3 && args[0] == "start":
		s.atEnd(func(testscript.T) { _ = exec.Command("lab", "member", "stop", args[1]).Run() })
		return s.runProgram("", "lab", "member", "start", args[1], args[2], "--namespace", s.team)
	case len(args) == 2 && args[0] == "stop":
		return s.runProgram("", "lab", "member", "stop", args[1])
	case len(args) == 3 && args[0] == "tls":
		return "", s.startTLSMember(net.JoinHostPort(s.Address, args[1]), args[2])
	}
	return "", usage(memberUsage)
}

func (s *story) startTLSMember(at, name string) error {
	if s.Address == "" {
		return errors.New("there is no lab around the stories")
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", at)
	if err != nil {
		return fmt.Errorf("member %s: %w", name, err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"pod": name, "namespace": s.team})
	}))
	server.Listener = l
	server.StartTLS()
	s.atEnd(func(testscript.T) { server.Close() })
	return nil
}
