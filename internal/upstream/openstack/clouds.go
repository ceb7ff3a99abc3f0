package openstack

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"sigs.k8s.io/yaml"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// maxClouds is the most bytes that a clouds.yaml may have: what fits into a Secret.
const maxClouds = 1 << 20

// Config says how a cloud is reached.
type Config struct {
	// Auth are the credentials, scoped to a project.
	Auth gophercloud.AuthOptions
	// Region and Interface choose endpoints of the catalog.
	Region    string
	Interface gophercloud.Availability
	TLS       *tls.Config
	// AllowPlaintext accepts endpoints without TLS.
	AllowPlaintext bool
	UserAgent      string
}

// cloud is an entry of a clouds.yaml, as far as Gimbal knows it. What it doesn't know,
// such as versions of other services, doesn't matter.
// https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
type cloud struct {
	Auth         auth   `json:"auth"`
	AuthType     string `json:"auth_type"`
	RegionName   string `json:"region_name"`
	Interface    string `json:"interface"`
	EndpointType string `json:"endpoint_type"`
	Verify       *bool  `json:"verify"`
	Insecure     bool   `json:"insecure"`
	CACert       string `json:"cacert"`
	Cert         string `json:"cert"`
	Key          string `json:"key"`
	Profile      string `json:"profile"`
	Cloud        string `json:"cloud"`
}

type auth struct {
	AuthURL                     string `json:"auth_url"`
	Username                    string `json:"username"`
	UserID                      string `json:"user_id"`
	Password                    string `json:"password"`
	UserDomainName              string `json:"user_domain_name"`
	UserDomainID                string `json:"user_domain_id"`
	ProjectName                 string `json:"project_name"`
	ProjectID                   string `json:"project_id"`
	ProjectDomainName           string `json:"project_domain_name"`
	ProjectDomainID             string `json:"project_domain_id"`
	ApplicationCredentialID     string `json:"application_credential_id"`
	ApplicationCredentialName   string `json:"application_credential_name"`
	ApplicationCredentialSecret string `json:"application_credential_secret"`
	Token                       string `json:"token"`
	TrustID                     string `json:"trust_id"`
	SystemScope                 string `json:"system_scope"`
}

// ParseClouds makes a Config of one cloud of a clouds.yaml that holds a password or an
// application credential, and of a bundle of certificates in PEM, which may be empty.
// What reads files, can't be renewed or trusts any server is refused. name may be empty
// where there is one cloud only. Nothing of the agent's own environment or files counts.
//
// The error is a *upstream.Rejection.
func ParseClouds(cloudsYAML []byte, name string, ca []byte, userAgent string, allow upstream.Allow) (*Config, error) {
	c, err := choose(cloudsYAML, name)
	if err != nil {
		return nil, err
	}
	insecure := c.Insecure || c.Verify != nil && !*c.Verify
	if err := checkCloud(c, insecure, allow); err != nil {
		return nil, err
	}
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	available := gophercloud.Availability(strings.TrimSuffix(cmp.Or(c.Interface, c.EndpointType, "public"), "URL"))
	if !slices.Contains([]gophercloud.Availability{gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin}, available) {
		return nil, invalid("interface must be public, internal or admin")
	}
	config := &Config{
		Auth: options, Region: c.RegionName, Interface: available, AllowPlaintext: allow.InsecureTLS, UserAgent: userAgent,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure},
	}
	if len(ca) > 0 {
		config.TLS.RootCAs = x509.NewCertPool()
		if !config.TLS.RootCAs.AppendCertsFromPEM(ca) {
			return nil, invalid("the CA bundle that spec.openstack.cloudsSecret.caKey names holds no certificate in PEM")
		}
	}
	return config, nil
}

func invalid(format string, args ...any) error {
	return upstream.Reject(ReasonInvalidClouds, format, args...)
}

// choose returns the cloud of a name, or the only one.
func choose(cloudsYAML []byte, name string) (*cloud, error) {
	if len(cloudsYAML) > maxClouds {
		return nil, invalid("the clouds.yaml has %d bytes, more than %d", len(cloudsYAML), maxClouds)
	}
	var file struct {
		Clouds map[string]*cloud `json:"clouds"`
	}
	if err := yaml.Unmarshal(cloudsYAML, &file); err != nil {
		return nil, invalid("the clouds.yaml can't be parsed%s: check it with openstack configuration show", upstream.Line(err))
	}
	names := slices.Sorted(maps.Keys(file.Clouds))
	switch {
	case len(names) == 0:
		return nil, invalid("the clouds.yaml has no clouds")
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "":
		return nil, invalid("the clouds.yaml has %d clouds: name one in spec.openstack.cloudsSecret.cloud", len(names))
	}
	if file.Clouds[name] == nil {
		return nil, invalid("cloud %.64q is missing in the clouds.yaml: correct spec.openstack.cloudsSecret.cloud", name)
	}
	return file.Clouds[name], nil
}

// checkCloud refuses what would act with the agent's rights or can't last.
func checkCloud(c *cloud, insecure bool, allow upstream.Allow) error {
	switch {
	case c.CACert != "":
		return upstream.Reject(upstream.ReasonFilePathRefused, "cacert is refused, it is a path: put the certificates into the Secret, and their key into spec.openstack.cloudsSecret.caKey")
	case c.Cert != "" || c.Key != "":
		return upstream.Reject(upstream.ReasonFilePathRefused, "cert and key are refused, they are paths: use a password or an application credential")
	case c.Profile != "" || c.Cloud != "":
		return upstream.Reject(upstream.ReasonFilePathRefused, "profile is refused, it reads other files: give auth_url and the like")
	case insecure && !allow.InsecureTLS:
		return upstream.Reject(upstream.ReasonInsecureRefused, "verify: false is refused: give the CA's certificates, see spec.openstack.cloudsSecret.caKey")
	case c.Auth.Token != "":
		return invalid("token is refused, it can't be renewed: use a password or an application credential")
	case c.Auth.TrustID != "" || c.Auth.SystemScope != "":
		return invalid("trust_id and system_scope aren't supported, Octavia wants a project: give project_name or project_id")
	case !slices.Contains([]string{"", "password", "v3password", "v3applicationcredential"}, c.AuthType):
		return invalid("auth_type %.32q isn't supported: use password or v3applicationcredential", c.AuthType)
	}
	return checkURL(c.Auth.AuthURL, "auth_url", allow.InsecureTLS)
}

func checkURL(s, what string, allowPlaintext bool) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return invalid("%s is missing", what)
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return invalid("%s must be a URL such as https://host:5000/v3", what)
	case u.Scheme == "http" && !allowPlaintext:
		return upstream.Reject(upstream.ReasonInsecureRefused, "%s without TLS is refused: use https", what)
	}
	return nil
}

// options returns the credentials for Keystone.
func (c *cloud) options() (gophercloud.AuthOptions, error) {
	a := c.Auth
	o := gophercloud.AuthOptions{
		IdentityEndpoint: a.AuthURL, AllowReauth: true,
		Username: a.Username, UserID: a.UserID, DomainName: a.UserDomainName, DomainID: a.UserDomainID,
	}
	byName := a.Username != "" && a.UserID == ""
	if c.AuthType == "v3applicationcredential" || a.ApplicationCredentialID != "" || a.ApplicationCredentialName != "" {
		o.ApplicationCredentialID, o.ApplicationCredentialName, o.ApplicationCredentialSecret =
			a.ApplicationCredentialID, a.ApplicationCredentialName, a.ApplicationCredentialSecret
		switch {
		case a.ApplicationCredentialSecret == "":
			return o, invalid("application_credential_secret is missing")
		case a.ApplicationCredentialID != "": // says whose it is
			o.Username, o.UserID, o.DomainName, o.DomainID, o.ApplicationCredentialName = "", "", "", "", ""
			return o, nil
		case a.ApplicationCredentialName == "":
			return o, invalid("application_credential_id is missing")
		}
	} else {
		o.Password = a.Password
		o.Scope = &gophercloud.AuthScope{ProjectID: a.ProjectID}
		if a.ProjectID == "" {
			*o.Scope = gophercloud.AuthScope{ProjectName: a.ProjectName, DomainName: a.ProjectDomainName, DomainID: a.ProjectDomainID}
		}
		switch {
		case a.Password == "":
			return o, invalid("password is missing: use a password or an application credential")
		case a.ProjectID == "" && a.ProjectName == "":
			return o, invalid("project_name is missing: Octavia wants a project")
		case a.ProjectID == "" && a.ProjectDomainName == "" && a.ProjectDomainID == "":
			return o, invalid("project_domain_name is missing")
		}
	}
	switch {
	case a.UserID == "" && a.Username == "":
		return o, invalid("username is missing")
	case byName && a.UserDomainName == "" && a.UserDomainID == "":
		return o, invalid("user_domain_name is missing")
	case !byName: // the id says the domain
		o.Username, o.DomainName, o.DomainID = "", "", ""
	case a.UserDomainID != "": // Keystone takes one of them
		o.DomainName = ""
	}
	if s := o.Scope; s != nil && s.DomainID != "" {
		s.DomainName = ""
	}
	return o, nil
}
