package script

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Cluster is one real cluster that a story works on.
type Cluster struct {
	// Name is the kubectl context by which stories call it.
	Name string
	// API starts, stops, pauses and resumes the API server; nil where that can't be done.
	API APIServer
	// Audit is the path of the API server's audit log; empty where there is none.
	Audit string

	config *rest.Config
	client *http.Client
}

// APIServer is what stories do to an API server.
type APIServer interface {
	StartAPIServer(ctx context.Context) error
	StopAPIServer() error
	PauseAPIServer() error
	ResumeAPIServer() error
}

// Etcd is what stories do to a cluster's store.
type Etcd interface {
	SaveEtcd(ctx context.Context) error
	RestoreEtcd(ctx context.Context) error
}

// OpenCluster returns the cluster that a context of a kubeconfig file names, with
// that context's rights. An empty context means the current one.
func OpenCluster(name, file, context string) (*Cluster, error) {
	all, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: name}
	if c.config, err = clientcmd.NewNonInteractiveClientConfig(*all, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig(); err != nil {
		return nil, fmt.Errorf("context %q of %s: %w", context, file, err)
	}
	c.config.Timeout = 20 * time.Second
	if c.client, err = rest.HTTPClientFor(c.config); err != nil {
		return nil, fmt.Errorf("context %q of %s: %w", context, file, err)
	}
	return c, nil
}

// at returns the cluster's address and certificate authority.
func (c *Cluster) at() *clientcmdapi.Cluster {
	return &clientcmdapi.Cluster{Server: c.config.Host, CertificateAuthorityData: c.config.CAData}
}

// kubeconfig returns a kubeconfig with the administrator's rights and a default namespace.
func (c *Cluster) kubeconfig(context, namespace string) *clientcmdapi.Config {
	return oneContext(context, namespace, c.at(), &clientcmdapi.AuthInfo{
		ClientCertificateData: c.config.CertData, ClientKeyData: c.config.KeyData,
	})
}

// oneContext returns a kubeconfig with a single context.
func oneContext(name, namespace string, at *clientcmdapi.Cluster, as *clientcmdapi.AuthInfo) *clientcmdapi.Config {
	k := clientcmdapi.NewConfig()
	k.CurrentContext = name
	k.Clusters[name] = at
	k.AuthInfos[name] = as
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	return k
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
	req, err := http.NewRequestWithContext(ctx, method, c.config.Host+path, body)
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
