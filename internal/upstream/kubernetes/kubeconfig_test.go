package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/projectcontour/gimbal/internal/upstream"
)

const canary = "c4n4ry-s3cret"

// pair returns a self-signed certificate and its key, in PEM and base64.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER)
}

func kubeconfig(cluster, user string) string {
	return `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}, {name: other, context: {cluster: bad, user: bad}}]
clusters: [{name: k, cluster: {` + cluster + `}}, {name: bad, cluster: {server: "http://x"}}]
users: [{name: u, user: {` + user + `}}, {name: bad, user: {exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}}]
`
}

func TestRESTConfig(t *testing.T) {
	cert, key := pair(t)
	_, otherKey := pair(t)
	const (
		server = `server: "https://host:6443"`
		token  = `token: "` + canary + `"`
	)
	tests := []struct {
		name, config string
		allow        upstream.Allow
		reason       string // "" where it is accepted
		says         string
	}{
		{"token", kubeconfig(server, token), upstream.Allow{}, "", ""},
		{"token with a line feed", kubeconfig(server, `token: "`+canary+`\n"`), upstream.Allow{}, "", ""},
		{"certificate", kubeconfig(server+", certificate-authority-data: "+cert, "client-certificate-data: "+cert+", client-key-data: "+key), upstream.Allow{}, "", ""},
		{"exec allowed", kubeconfig(server, `exec: {command: sh, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}`), upstream.Allow{ExecPlugins: true}, "", ""},
		{"insecure allowed", kubeconfig(server+", insecure-skip-tls-verify: true", token), upstream.Allow{InsecureTLS: true}, "", ""},
		{"http allowed", kubeconfig(`server: "http://host"`, token), upstream.Allow{InsecureTLS: true}, "", ""},

		{"exec", kubeconfig(server, `exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}, `+token), upstream.Allow{}, upstream.ReasonCredentialPluginRefused, "exec"},
		{"auth-provider", kubeconfig(server, `auth-provider: {name: gcp}, `+token), upstream.Allow{ExecPlugins: true}, upstream.ReasonCredentialPluginRefused, "auth-provider"},
		{"certificate-authority", kubeconfig(server+", certificate-authority: /etc/"+canary, token), upstream.Allow{}, upstream.ReasonFilePathRefused, "certificate-authority-data"},
		{"client-certificate", kubeconfig(server, "client-certificate: /etc/"+canary+", "+token), upstream.Allow{}, upstream.ReasonFilePathRefused, "client-certificate-data"},
		{"client-key", kubeconfig(server, "client-key: /etc/"+canary+", "+token), upstream.Allow{}, upstream.ReasonFilePathRefused, "client-key-data"},
		{"tokenFile", kubeconfig(server, "tokenFile: /etc/"+canary+", "+token), upstream.Allow{}, upstream.ReasonFilePathRefused, "give token"},
		{"insecure", kubeconfig(server+", insecure-skip-tls-verify: true", token), upstream.Allow{}, upstream.ReasonInsecureRefused, "insecure-skip-tls-verify"},
		{"http", kubeconfig(`server: "http://host"`, token), upstream.Allow{}, upstream.ReasonInsecureRefused, "https"},
		{"basic", kubeconfig(server, "username: x, password: "+canary), upstream.Allow{}, ReasonInvalidKubeconfig, "password"},
		{"impersonation", kubeconfig(server, "as: x, "+token), upstream.Allow{}, ReasonInvalidKubeconfig, "impersonation"},
		{"groups", kubeconfig(server, "as-groups: [x], "+token), upstream.Allow{}, ReasonInvalidKubeconfig, "impersonation"},
		{"proxy", kubeconfig(server+`, proxy-url: "http://p"`, token), upstream.Allow{}, ReasonInvalidKubeconfig, "HTTPS_PROXY"},
		{"no credentials", kubeconfig(server, ""), upstream.Allow{}, ReasonInvalidKubeconfig, "neither token"},
		{"no key", kubeconfig(server, "client-certificate-data: "+cert), upstream.Allow{}, ReasonInvalidKubeconfig, "client-key-data is missing"},
		{"no certificate", kubeconfig(server, "client-key-data: "+key), upstream.Allow{}, ReasonInvalidKubeconfig, "client-certificate-data is missing"},
		{"another's key", kubeconfig(server, "client-certificate-data: "+cert+", client-key-data: "+otherKey), upstream.Allow{}, ReasonInvalidKubeconfig, "aren't"},
		{"CA no PEM", kubeconfig(server+", certificate-authority-data: eHl6", token), upstream.Allow{}, ReasonInvalidKubeconfig, "no certificate"},
		{"odd token", kubeconfig(server, `token: "`+canary+`\nx"`), upstream.Allow{}, ReasonInvalidKubeconfig, "characters"},
		{"no server", kubeconfig("", token), upstream.Allow{}, ReasonInvalidKubeconfig, "server"},
		{"no URL", kubeconfig("server: host", token), upstream.Allow{}, ReasonInvalidKubeconfig, "https://host:6443"},
		{"password in the URL", kubeconfig(`server: "https://u:`+canary+`@host"`, token), upstream.Allow{}, ReasonInvalidKubeconfig, "server"},
		{"empty", "", upstream.Allow{}, ReasonInvalidKubeconfig, "empty"},
		{"large", strings.Repeat("#"+canary+"\n", 1<<17), upstream.Allow{}, ReasonInvalidKubeconfig, "bytes"},
		{"no YAML", "a: [" + canary, upstream.Allow{}, ReasonInvalidKubeconfig, "can't be parsed"},
		{"another type", "users: " + canary, upstream.Allow{}, ReasonInvalidKubeconfig, "can't be parsed"},
		{"no base64", kubeconfig(server, "client-key-data: '"+canary+"'"), upstream.Allow{}, ReasonInvalidKubeconfig, "can't be parsed"},
		{"no context", "current-context: x", upstream.Allow{}, ReasonInvalidKubeconfig, `context "x"`},
		{"no current context", strings.Replace(kubeconfig(server, token), "current-context: c", "", 1), upstream.Allow{}, ReasonInvalidKubeconfig, "current-context"},
		{"no cluster", strings.Replace(kubeconfig(server, token), "cluster: k", "cluster: z", 1), upstream.Allow{}, ReasonInvalidKubeconfig, `cluster "z"`},
		{"no user", strings.Replace(kubeconfig(server, token), "user: u", "user: z", 1), upstream.Allow{}, ReasonInvalidKubeconfig, `user "z"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := RESTConfig([]byte(tt.config), "gimbal/test", tt.allow)
			if tt.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if c.QPS >= 0 || c.UserAgent != "gimbal/test" || c.BearerToken != "" && c.BearerToken != canary {
					t.Errorf("config is %v", c)
				}
				if _, err := newClient(c); err != nil {
					t.Error(err)
				}
				return
			}
			refused := new(upstream.Rejection)
			if !errors.As(err, &refused) || refused.Reason != tt.reason || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %s with %q", err, tt.reason, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("error %q tells a secret", err)
			}
		})
	}
}

func FuzzRESTConfig(f *testing.F) {
	f.Add([]byte(kubeconfig(`server: "https://host"`, "token: x")))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, kubeconfig []byte) {
		c, err := RESTConfig(kubeconfig, "x", upstream.Allow{})
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if c != nil && (c.Insecure || c.ExecProvider != nil || c.CAFile+c.CertFile+c.KeyFile+c.BearerTokenFile+c.Username != "") {
			t.Fatal("refused content was let through")
		}
	})
}
