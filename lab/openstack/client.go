package openstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

// Object is one of OpenStack's objects as its API gives and takes it.
type Object map[string]any

// ID is the object's id.
func (o Object) ID() string { return o.String("id") }

// String is the field called name where it is a string, and else empty.
func (o Object) String(name string) string {
	s, _ := o[name].(string)
	return s
}

// access is all that a client needs to know.
type access struct {
	AuthURL, OctaviaURL, CA                              string
	NeutronURL                                           string // empty where there is none
	AdminPassword, DiscovererPassword, ServicePassword   string
	ApplicationCredentialID, ApplicationCredentialSecret string
	Heartbeats, HeartbeatKey                             string
}

// Client is an administrator's client. Its methods are safe for concurrent use.
type Client struct {
	access access
	http   http.Client

	mu    sync.Mutex
	admin *gophercloud.ProviderClient
}

// Open returns a client of the OpenStack whose AccessFile is at path.
func Open(path string) (*Client, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open OpenStack: %w", err)
	}
	var a access
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("open OpenStack: %s: %w", path, err)
	}
	return newClient(a)
}

func newClient(a access) (*Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(a.CA)) {
		return nil, errors.New("the file for access to OpenStack holds no CA")
	}
	return &Client{access: a, http: http.Client{
		Timeout: 30 * time.Second,
		// Each request sees the services as they are now.
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		},
	}}, nil
}

// save writes the file that Open reads.
func (c *Client) save(path string) error {
	b, err := json.MarshalIndent(c.access, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

func newPassword() string { return rand.Text() }

// AuthURL is Keystone's, with its version.
func (c *Client) AuthURL() string { return c.access.AuthURL }

// OctaviaURL is Octavia's.
func (c *Client) OctaviaURL() string { return c.access.OctaviaURL }

// CA is the authority, in PEM, of the services' certificates.
func (c *Client) CA() []byte { return []byte(c.access.CA) }

// CloudsYAML is a clouds.yaml in which the cloud called name is this one, as the
// discoverer sees it with an application credential.
func (c *Client) CloudsYAML(name string) []byte {
	return cloudsYAML(name, "v3applicationcredential", [][2]string{
		{"auth_url", c.access.AuthURL},
		{"application_credential_id", c.access.ApplicationCredentialID},
		{"application_credential_secret", c.access.ApplicationCredentialSecret},
	})
}

// PasswordCloudsYAML is a clouds.yaml in which the cloud called name is this one, as
// the discoverer sees it with its password.
func (c *Client) PasswordCloudsYAML(name string) []byte {
	return c.passwordCloudsYAML(name, discoverer, c.access.DiscovererPassword, discovererProject)
}

// AdminCloudsYAML is a clouds.yaml in which the cloud called name is this one, as its
// administrator sees it.
func (c *Client) AdminCloudsYAML(name string) []byte {
	return c.passwordCloudsYAML(name, "admin", c.access.AdminPassword, "admin")
}

func (c *Client) passwordCloudsYAML(name, user, password, project string) []byte {
	return cloudsYAML(name, "password", [][2]string{
		{"auth_url", c.access.AuthURL}, {"username", user}, {"password", password}, {"project_name", project},
		{"user_domain_name", "Default"}, {"project_domain_name", "Default"},
	})
}

func (c *Client) userClouds(name string) []byte {
	return append(c.CloudsYAML(name), bytes.TrimPrefix(c.AdminCloudsYAML(name+"-admin"), []byte("clouds:\n"))...)
}

func cloudsYAML(name, kind string, auth [][2]string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "clouds:\n  %s:\n    region_name: %s\n    auth_type: %s\n    auth:\n", name, region, kind)
	for _, field := range auth {
		fmt.Fprintf(&b, "      %s: %q\n", field[0], field[1])
	}
	return b.Bytes()
}

// authenticate returns a provider for who opts say.
func (c *Client) authenticate(ctx context.Context, opts gophercloud.AuthOptions) (*gophercloud.ProviderClient, error) {
	opts.IdentityEndpoint, opts.AllowReauth = c.access.AuthURL, true
	provider, err := openstack.NewClient(opts.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	provider.HTTPClient = c.http
	if err := openstack.Authenticate(ctx, provider, opts); err != nil {
		return nil, fmt.Errorf("authenticate with Keystone at %s: %w", c.access.AuthURL, err)
	}
	return provider, nil
}

func (c *Client) administrator(ctx context.Context) (*gophercloud.ProviderClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admin != nil {
		return c.admin, nil
	}
	var err error
	c.admin, err = c.authenticate(ctx, gophercloud.AuthOptions{
		Username: "admin", Password: c.access.AdminPassword, TenantName: "admin", DomainName: "Default",
	})
	return c.admin, err
}

// identity does one of Keystone's requests as administrator; in and the result are JSON.
func (c *Client) identity(ctx context.Context, method, path string, in any) (Object, error) {
	return c.do(ctx, method, c.access.AuthURL+path, in)
}

// octavia does one of Octavia's requests as administrator; in and the result are JSON.
func (c *Client) octavia(ctx context.Context, method, path string, in any) (Object, error) {
	return c.do(ctx, method, c.access.OctaviaURL+"/v2.0"+path, in)
}

func (c *Client) do(ctx context.Context, method, url string, in any) (Object, error) {
	provider, err := c.administrator(ctx)
	if err != nil {
		return nil, err
	}
	return request(ctx, provider, method, url, in)
}

func request(ctx context.Context, provider *gophercloud.ProviderClient, method, url string, in any) (Object, error) {
	res, err := provider.Request(ctx, method, url, &gophercloud.RequestOpts{
		JSONBody: in, KeepResponseBody: true,
		OkCodes: []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent},
	})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		return nil, nil
	}
	var out Object
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	return out, nil
}
