package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/projectcontour/gimbal/lab/pki"
)

func (c *ControlPlane) kubeconfig(user string, as clientcmdapi.AuthInfo) ([]byte, error) {
	name := c.opts.Name
	k := clientcmdapi.NewConfig()
	// The user's name carries the cluster's, so that files merge without clashes.
	k.CurrentContext, user = name, name+"-"+user
	k.Clusters[name] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.pki.PEM()}
	k.AuthInfos[user] = &as
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	b, err := clientcmd.Write(*k)
	if err != nil {
		return nil, fmt.Errorf("encode the kubeconfig of %s for %s: %w", user, name, err)
	}
	return b, nil
}

// UserKubeconfig makes a kubeconfig with a client certificate for a user in groups.
func (c *ControlPlane) UserKubeconfig(user string, groups ...string) ([]byte, error) {
	cert, key, err := c.pki.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	return c.kubeconfig(user, clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

// ServiceAccountKubeconfig makes a kubeconfig with a token of an existing
// ServiceAccount that is valid for lifetime, or for a year where lifetime is zero.
func (c *ControlPlane) ServiceAccountKubeconfig(ctx context.Context, namespace, name string, lifetime time.Duration) ([]byte, error) {
	token, err := c.ServiceAccountToken(ctx, namespace, name, lifetime)
	if err != nil {
		return nil, err
	}
	return c.kubeconfig(namespace+"-"+name, clientcmdapi.AuthInfo{Token: token})
}

// ServiceAccountToken asks for a token of an existing ServiceAccount that is
// valid for lifetime (the API's least is 10 minutes), or for a year where lifetime is zero.
func (c *ControlPlane) ServiceAccountToken(ctx context.Context, namespace, name string, lifetime time.Duration) (string, error) {
	if lifetime == 0 {
		lifetime = pki.Validity
	}
	in := map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{"expirationSeconds": int64(lifetime / time.Second)},
	}
	var out struct{ Status struct{ Token string } }
	path := "/api/v1/namespaces/" + namespace + "/serviceaccounts/" + name + "/token"
	if err := c.request(ctx, http.MethodPost, path, in, &out); err != nil {
		return "", fmt.Errorf("token for ServiceAccount %s/%s of %s: %w", namespace, name, c.opts.Name, err)
	}
	return out.Status.Token, nil
}

// Status asks the API server for path as administrator and returns the HTTP
// status; an error means no answer.
func (c *ControlPlane) Status(ctx context.Context, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := c.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask the API server of %s: %w", c.opts.Name, err)
	}
	return res.StatusCode, res.Body.Close()
}

// request does one request as administrator; in and out are JSON, nil for none.
func (c *ControlPlane) request(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.URL()+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(b[:min(len(b), 500)]))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// adminClient is an HTTP client with the administrator's certificate. It keeps
// no connections: each request sees the API server as it is now.
func adminClient(ca *pki.Authority, cert, key []byte) (*http.Client, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("administrator's certificate: %w", err)
	}
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}}, nil
}

// writeFiles makes the keys, certificates and kubeconfigs, and the audit policy where one is missing.
func (c *ControlPlane) writeFiles() error {
	service, err := firstAddress(c.opts.ServiceCIDR)
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": c.pki.PEM()}
	if files["apiserver.crt"], files["apiserver.key"], err = c.pki.Server("kube-apiserver",
		c.opts.Address, "127.0.0.1", service, "localhost", c.opts.Name,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"); err != nil {
		return err
	}
	if files["sa.pub"], files["sa.key"], err = pki.SigningKey(); err != nil {
		return err
	}
	if files["kubelet-client.crt"], files["kubelet-client.key"], err = c.pki.Client("kube-apiserver", "system:masters"); err != nil {
		return err
	}
	cert, key, err := c.pki.Client("admin", "system:masters")
	if err != nil {
		return err
	}
	if c.client, err = adminClient(c.pki, cert, key); err != nil {
		return err
	}
	if files["kubeconfig"], err = c.kubeconfig("admin", clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}); err != nil {
		return err
	}
	if files["controller-manager.kubeconfig"], err = c.UserKubeconfig("system:kube-controller-manager"); err != nil {
		return err
	}
	if c.opts.AuditLog != "" && c.opts.AuditPolicy == "" {
		c.opts.AuditPolicy = c.file("audit-policy.yaml")
		files["audit-policy.yaml"] = []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived]}]\n")
	}
	for name, b := range files {
		if err := os.WriteFile(c.file(name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *ControlPlane) file(name string) string { return filepath.Join(c.opts.Dir, name) }

// firstAddress is the address that the API server's own Service gets in a service range.
func firstAddress(cidr string) (string, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return "", fmt.Errorf("service range %q: %w", cidr, err)
	}
	return prefix.Masked().Addr().Next().String(), nil
}
