// Command echo is the lab's sample application. It answers every request with
// JSON that tells who answered and what was asked; /healthz answers "ok". It
// speaks HTTP/1.1 and, to those that begin with it, HTTP/2 without TLS.
//
// Its environment says the rest. PORTS lists the ports to listen on as
// name=number, separated by commas (default http=8080); BIND is the address to
// listen on (default all, IPv4 and IPv6). CLUSTER, NAMESPACE, POD and VERSION
// are told in the answer as they are.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// answer is what echo answers.
type answer struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Version   string `json:"version,omitempty"`
	Port      string `json:"port"`
	Protocol  string `json:"protocol"`
	Method    string `json:"method"`
	Host      string `json:"host"`
	Path      string `json:"path"`
	// Client is the address that the request came from.
	Client string `json:"client"`
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ports, err := parsePorts(os.Getenv("PORTS"))
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error)
	for number, name := range ports {
		server := &http.Server{
			Addr:    net.JoinHostPort(os.Getenv("BIND"), strconv.Itoa(number)),
			Handler: handler(name), ReadHeaderTimeout: 10 * time.Second, Protocols: &protocols,
		}
		go func() { failed <- server.ListenAndServe() }()
	}
	return <-failed
}

// parsePorts reads a list such as "http=8080,admin=9090" into names by number.
func parsePorts(list string) (map[int]string, error) {
	if list == "" {
		list = "http=8080"
	}
	ports := map[int]string{}
	for entry := range strings.SplitSeq(list, ",") {
		name, number, ok := strings.Cut(strings.TrimSpace(entry), "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("PORTS: %q isn't name=number with a port's number", entry)
		}
		if _, twice := ports[n]; twice {
			return nil, errors.New("PORTS: port " + number + " is there twice")
		}
		ports[n] = name
	}
	return ports, nil
}

func handler(port string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer{
			Cluster: os.Getenv("CLUSTER"), Namespace: os.Getenv("NAMESPACE"), Pod: os.Getenv("POD"),
			Version: os.Getenv("VERSION"), Port: port,
			Protocol: r.Proto, Method: r.Method, Host: r.Host, Path: r.URL.RequestURI(), Client: r.RemoteAddr,
		})
	})
	return mux
}
