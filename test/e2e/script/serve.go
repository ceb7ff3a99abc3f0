package script

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/rogpeppe/go-internal/testscript"
)

// serve starts what answers requests at an address: as the lab's echo application does, in
// HTTP/1.1 or, to those that begin with it, HTTP/2 without TLS; or with TLS alone.
func serve(s *story, args []string) (string, error) {
	if len(args) < 2 || len(args) > 3 || len(args) == 3 && args[2] != "tls" {
		return "", usage("serve ADDRESS:PORT NAME [tls]")
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", args[0])
	if err != nil {
		return "", fmt.Errorf("serve %s: %w", args[1], err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]string{"pod": args[1], "namespace": s.team, "protocol": r.Proto, "at": args[0], "tls": fmt.Sprint(r.TLS != nil)}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	server.Listener = l
	if len(args) == 3 {
		server.StartTLS()
	} else {
		server.Config.Protocols = &protocols
		server.Start()
	}
	s.atEnd(func(testscript.T) { server.CloseClientConnections(); server.Close() })
	return "", nil
}
