package script

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"sigs.k8s.io/yaml"
)

// Cluster is one real cluster that a story works on.
type Cluster struct {
	// Name is the kubectl context by which stories call it.
	Name string
	// API starts, stops, pauses and resumes the API server; nil where that can't be done.
	API APIServer
	// Audit is the path of the API server's audit log; empty where there is none.
	Audit string

	config *kubeconfig
	client *http.Client
}

// APIServer is what stories do to an API server.
type APIServer interface {
	StartAPIServer(ctx context.Context) error
	StopAPIServer() error
	PauseAPIServer() error
	ResumeAPIServer() error
}

// kubeconfig is the part of a kubeconfig file that stories use.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
}

type namedCluster struct {
	Name    string  `json:"name"`
	Cluster cluster `json:"cluster"`
}

type cluster struct {
	Server string `json:"server"`
	CA     []byte `json:"certificate-authority-data"`
}

type namedUser struct {
	Name string `json:"name"`
	User user   `json:"user"`
}

type user struct {
	Cert  []byte `json:"client-certificate-data,omitempty"`
	Key   []byte `json:"client-key-data,omitempty"`
	Token string `json:"token,omitempty"`
}

type namedContext struct {
	Name    string     `json:"name"`
	Context contextRef `json:"context"`
}

type contextRef struct {
	Cluster   string `json:"cluster"`
	User      string `json:"user"`
	Namespace string `json:"namespace,omitempty"`
}

// oneContext returns a kubeconfig with a single context.
func oneContext(name, namespace string, c cluster, u user) *kubeconfig {
	return &kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []namedCluster{{name, c}},
		Users:    []namedUser{{name, u}},
		Contexts: []namedContext{{name, contextRef{name, name, namespace}}},
	}
}

// add adds another kubeconfig's single context.
func (k *kubeconfig) add(o *kubeconfig) {
	k.Clusters = append(k.Clusters, o.Clusters...)
	k.Users = append(k.Users, o.Users...)
	k.Contexts = append(k.Contexts, o.Contexts...)
}

func (k *kubeconfig) write(path string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// OpenCluster returns the cluster that a context of a kubeconfig file names, with
// that context's rights. An empty context means the current one.
func OpenCluster(name, file, context string) (*Cluster, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all kubeconfig
	if err := yaml.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if context == "" {
		context = all.CurrentContext
	}
	var ref contextRef
	var at cluster
	var as user
	for _, c := range all.Contexts {
		if c.Name == context {
			ref = c.Context
		}
	}
	for _, c := range all.Clusters {
		if c.Name == ref.Cluster {
			at = c.Cluster
		}
	}
	for _, u := range all.Users {
		if u.Name == ref.User {
			as = u.User
		}
	}
	c := &Cluster{Name: name, config: oneContext(name, "", at, as)}
	c.client, err = httpClient(at, as)
	if err != nil {
		return nil, fmt.Errorf("context %q of %s: %w", context, file, err)
	}
	return c, nil
}

func httpClient(c cluster, u user) (*http.Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, fmt.Errorf("no certificate authority")
	}
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if len(u.Cert) > 0 {
		pair, err := tls.X509KeyPair(u.Cert, u.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}, nil
}

// at returns the cluster's address and certificate authority.
func (c *Cluster) at() cluster { return c.config.Clusters[0].Cluster }

// kubeconfig returns a kubeconfig with the administrator's rights and a default namespace.
func (c *Cluster) kubeconfig(context, namespace string) *kubeconfig {
	return oneContext(context, namespace, c.at(), c.config.Users[0].User)
}

// Do sends a request with the administrator's rights; in and out are JSON, nil for none.
func (c *Cluster) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.at().Server+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// token asks for a token of a ServiceAccount.
func (c *Cluster) token(ctx context.Context, namespace, name string) (string, error) {
	in := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": 24 * 3600}}
	var out struct{ Status struct{ Token string } }
	err := c.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token", in, &out)
	return out.Status.Token, err
}
