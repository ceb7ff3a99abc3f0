package kubernetes

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// maxKubeconfig is the most bytes that a kubeconfig may have: what fits into a Secret.
const maxKubeconfig = 1 << 20

// RESTConfig makes a client configuration of a kubeconfig that holds everything
// inline: certificate authority, and a token or a client certificate. A kubeconfig
// that runs programs, reads files or trusts any server would act with the agent's
// rights and is refused, and so is what Kubernetes or Gimbal doesn't support: auth
// providers, basic authentication, impersonation, a proxy of its own. Only the current context counts.
//
// The error is a *upstream.Rejection.
func RESTConfig(kubeconfig []byte, userAgent string, allow upstream.Allow) (*rest.Config, error) {
	cluster, user, err := current(kubeconfig)
	if err == nil {
		err = errors.Join(checkCluster(cluster, allow), checkUser(user, allow))
	}
	if err != nil {
		if first := new(upstream.Rejection); errors.As(err, &first) {
			return nil, &upstream.Rejection{Reason: first.Reason, Err: err}
		}
		return nil, invalid("%w", err)
	}
	c := &rest.Config{
		Host:        cluster.Server,
		BearerToken: strings.TrimSpace(user.Token),
		TLSClientConfig: rest.TLSClientConfig{
			Insecure:   cluster.InsecureSkipTLSVerify,
			ServerName: cluster.TLSServerName,
			CAData:     cluster.CertificateAuthorityData,
			CertData:   user.ClientCertificateData,
			KeyData:    user.ClientKeyData,
		},
		UserAgent:          userAgent,
		DisableCompression: cluster.DisableCompression,
		QPS:                -1, // the server's own priority and fairness rules
		WarningHandler:     rest.NoWarnings{},
	}
	if c.Insecure {
		c.CAData = nil // client-go refuses both
	}
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if user.Exec != nil {
		c.ExecProvider = user.Exec.DeepCopy()
		c.ExecProvider.InteractiveMode = clientcmdapi.NeverExecInteractiveMode
		c.ExecProvider.StdinUnavailable = true
	}
	return c, nil
}

func invalid(format string, args ...any) error {
	return upstream.Reject(ReasonInvalidKubeconfig, format, args...)
}

// current returns the cluster and the user of the current context.
func current(kubeconfig []byte) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	if len(kubeconfig) == 0 {
		return nil, nil, invalid("the kubeconfig is empty")
	}
	if len(kubeconfig) > maxKubeconfig {
		return nil, nil, invalid("the kubeconfig has %d bytes, more than %d", len(kubeconfig), maxKubeconfig)
	}
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, nil, invalid("the kubeconfig can't be parsed%s: check it with kubectl config view", upstream.Line(err))
	}
	if config.CurrentContext == "" {
		return nil, nil, invalid("current-context is missing")
	}
	context := config.Contexts[config.CurrentContext]
	if context == nil {
		return nil, nil, invalid("context %.64q, the current one, is missing", config.CurrentContext)
	}
	cluster := config.Clusters[context.Cluster]
	if cluster == nil {
		return nil, nil, invalid("cluster %.64q of the current context is missing", context.Cluster)
	}
	user := config.AuthInfos[context.AuthInfo]
	if user == nil {
		return nil, nil, invalid("user %.64q of the current context is missing", context.AuthInfo)
	}
	return cluster, user, nil
}

func checkCluster(c *clientcmdapi.Cluster, allow upstream.Allow) error {
	if c.CertificateAuthority != "" {
		return fileRefused("certificate-authority", "certificate-authority-data")
	}
	if c.InsecureSkipTLSVerify && !allow.InsecureTLS {
		return upstream.Reject(upstream.ReasonInsecureRefused, "insecure-skip-tls-verify is refused: give certificate-authority-data")
	}
	if c.ProxyURL != "" {
		return invalid("proxy-url isn't supported: set HTTPS_PROXY on the agent")
	}
	if err := checkServer(c.Server, allow); err != nil {
		return err
	}
	if len(c.CertificateAuthorityData) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CertificateAuthorityData) {
		return invalid("certificate-authority-data holds no certificate")
	}
	return nil
}

func checkServer(server string, allow upstream.Allow) error {
	if server == "" {
		return invalid("server of the current context's cluster is missing")
	}
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return invalid("server must be a URL such as https://host:6443")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return invalid("server must be a URL such as https://host:6443")
	case !allow.InsecureTLS:
		return upstream.Reject(upstream.ReasonInsecureRefused, "a server without TLS is refused: use https")
	}
	return nil
}

func checkUser(u *clientcmdapi.AuthInfo, allow upstream.Allow) error {
	switch {
	case u.AuthProvider != nil:
		return upstream.Reject(upstream.ReasonCredentialPluginRefused, "auth-provider is refused: use a token or a client certificate")
	case u.Exec != nil && !allow.ExecPlugins:
		return upstream.Reject(upstream.ReasonCredentialPluginRefused, "exec is refused: use a token or a client certificate")
	case u.ClientCertificate != "":
		return fileRefused("client-certificate", "client-certificate-data")
	case u.ClientKey != "":
		return fileRefused("client-key", "client-key-data")
	case u.TokenFile != "":
		return fileRefused("tokenFile", "token")
	case u.Username != "" || u.Password != "":
		return invalid("username and password aren't supported: use a token or a client certificate")
	case u.Impersonate != "" || u.ImpersonateUID != "" || len(u.ImpersonateGroups) > 0 || len(u.ImpersonateUserExtra) > 0:
		return invalid("impersonation (as, as-groups) isn't supported: use the user's own token or client certificate")
	case u.Exec != nil:
		return nil
	}
	return checkCredentials(u)
}

func checkCredentials(u *clientcmdapi.AuthInfo) error {
	token := strings.TrimSpace(u.Token)
	cert, key := len(u.ClientCertificateData) > 0, len(u.ClientKeyData) > 0
	switch {
	case token == "" && !cert && !key:
		return invalid("the current context's user has neither token nor client-certificate-data")
	case cert && !key:
		return invalid("client-key-data is missing")
	case key && !cert:
		return invalid("client-certificate-data is missing")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return invalid("token holds characters that no token has")
	case !cert:
		return nil
	}
	if _, err := tls.X509KeyPair(u.ClientCertificateData, u.ClientKeyData); err != nil {
		return invalid("client-certificate-data and client-key-data aren't a certificate and its key")
	}
	return nil
}

func fileRefused(field, inline string) error {
	return upstream.Reject(upstream.ReasonFilePathRefused, "%s is refused, it is a path: give %s", field, inline)
}
