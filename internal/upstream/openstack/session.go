package openstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// renewBefore is how long before its end a token is renewed, at most: that of a short life goes on for three quarters of it.
const renewBefore = 2 * time.Minute

// octaviaAPI is the path of Octavia's API below its endpoint.
const octaviaAPI = "v2.0/lbaas/"

// session talks to one cloud: over connections of its own, with one token that is
// renewed in time or when it is refused. Only get may be called by several at once.
type session struct {
	config    *Config
	transport *http.Transport
	client    http.Client
	timeout   time.Duration // of a request
	requests  atomic.Int64

	provider *gophercloud.ProviderClient // nil while there is no token
	renew    time.Time
	// What the token says.
	identity, octavia string // URLs that end in a slash
	neutron           string // empty where there is none
	project           tokens.Project
}

func newSession(c *Config, timeout time.Duration) *session {
	s := &session{config: c, timeout: timeout, transport: upstream.NewTransport(c.TLS)}
	s.client = http.Client{Transport: counting{upstream.Limit(s.transport), &s.requests}, CheckRedirect: upstream.NoRedirects}
	return s
}

// counting counts requests.
type counting struct {
	next     http.RoundTripper
	requests *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return c.next.RoundTrip(r)
}

// authenticate makes sure that there is a token with some life left in it.
func (s *session) authenticate(ctx context.Context) error {
	if s.provider != nil && time.Now().Before(s.renew) {
		return nil
	}
	s.provider = nil
	provider, err := openstack.NewClient(s.config.Auth.IdentityEndpoint)
	if err != nil {
		return err
	}
	provider.HTTPClient = s.client
	provider.UserAgent.Prepend(s.config.UserAgent)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	options := s.config.Auth
	if err := openstack.AuthenticateV3(ctx, provider, &options, gophercloud.EndpointOpts{}); err != nil {
		return err
	}
	if err := s.readToken(provider); err != nil {
		return err
	}
	provider.ReauthFunc = giveUpWhenRefused(provider.ReauthFunc)
	s.provider = provider
	return nil
}

// giveUpWhenRefused makes a function that gets a new token give up after the first time that the
// credentials were refused: requests that were under way would each try them again, and
// have their user locked out. The provider never calls it twice at a time.
func giveUpWhenRefused(renew func(context.Context) error) func(context.Context) error {
	var refused error
	return func(ctx context.Context) error {
		if refused != nil {
			return refused
		}
		err := renew(ctx)
		if gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
			refused = err
		}
		return err
	}
}

// logout forgets the token, so that the next reading asks for another one and its catalog.
func (s *session) logout() { s.provider = nil }

var errNoProject = errors.New("the token isn't scoped to a project")

// readToken keeps what came with the token.
func (s *session) readToken(provider *gophercloud.ProviderClient) error {
	result, ok := provider.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return errors.New("Keystone's answer isn't a token")
	}
	token, err := result.ExtractToken()
	if err != nil {
		return err
	}
	project, err := result.ExtractProject()
	if err != nil {
		return err
	}
	if project == nil || project.ID == "" {
		return errNoProject
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return err
	}
	s.identity = strings.TrimSuffix(provider.IdentityBase, "/") + "/v3/"
	if s.octavia, err = s.endpoint(catalog, "load-balancer", octaviaAPI); err != nil {
		return err
	}
	var missing *endpointError
	if s.neutron, err = s.endpoint(catalog, "network", "v2.0/"); err != nil && (!errors.As(err, &missing) || !missing.none) {
		return err
	}
	s.project = *project
	life := time.Until(token.ExpiresAt)
	s.renew = time.Now().Add(life - min(renewBefore, life/4))
	return nil
}

// endpointError says that the catalog has no endpoint that can be used, or several.
type endpointError struct {
	message string
	none    bool
}

func (e *endpointError) Error() string { return e.message }

// endpoint returns the URL of a service's API from the catalog. Where no region is
// configured there must be one only, lest another order of the catalog is another cloud.
func (s *session) endpoint(catalog *tokens.ServiceCatalog, service, api string) (string, error) {
	found := s.endpoints(catalog, service)
	switch {
	case len(found) == 0:
		return "", &endpointError{fmt.Sprintf("Keystone's catalog has no %s endpoint for the interface %s in the region %.64q",
			service, s.config.Interface, cmp.Or(s.config.Region, "any")), true}
	case len(found) > 1:
		return "", &endpointError{fmt.Sprintf("Keystone's catalog has %s endpoints in several regions", service), false}
	}
	at := slices.Collect(maps.Values(found))[0]
	if err := checkURL(at, "the "+service+" endpoint in Keystone's catalog", s.config.AllowPlaintext); err != nil {
		return "", err
	}
	at = strings.TrimSuffix(at, "/")
	for _, version := range []string{"/v2.0", "/v2"} {
		at = strings.TrimSuffix(at, version)
	}
	return at + "/" + api, nil
}

// endpoints returns the first URL of a service in each region that may be meant.
func (s *session) endpoints(catalog *tokens.ServiceCatalog, service string) map[string]string {
	var o gophercloud.EndpointOpts
	o.ApplyDefaults(service)
	found := map[string]string{}
	for _, entry := range catalog.Entries {
		for _, e := range entry.Endpoints {
			in := cmp.Or(e.RegionID, e.Region)
			_, twice := found[in]
			if !twice && slices.Contains(o.Types(), entry.Type) && s.config.Interface == gophercloud.Availability(e.Interface) &&
				(s.config.Region == "" || s.config.Region == in || s.config.Region == e.Region) {
				found[in] = e.URL
			}
		}
	}
	return found
}

// get asks for a path below the URL of an API, has read read the answer, and returns the
// server's clock; zero if it has none. An answer that breaks off is the error, whatever read makes of it.
func (s *session) get(ctx context.Context, api, path string, query url.Values, read func(io.Reader) error) (clock time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	at := api + path
	if len(query) > 0 {
		at += "?" + query.Encode()
	}
	res, err := s.provider.Request(ctx, http.MethodGet, at, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}, KeepResponseBody: true})
	if err != nil {
		return clock, err
	}
	defer res.Body.Close()
	body := &broken{Reader: res.Body}
	if err := cmp.Or(read(body), body.err); err != nil {
		if body.err != nil {
			return clock, fmt.Errorf("reading the answer: %w", body.err)
		}
		return clock, err
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		clock = date
	}
	return clock, nil
}

// broken remembers why a reader broke off.
type broken struct {
	io.Reader
	err error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// unread reads an answer of which nothing matters but that it came.
func unread(body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}
