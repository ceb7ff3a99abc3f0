package openstack

import (
	"errors"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/projectcontour/gimbal/internal/upstream"
	"github.com/projectcontour/gimbal/internal/upstream/openstack/openstacktest"
)

const canary = "c4n4ry-s3cret"

const (
	byName     = `auth_url: "https://host:5000/v3", username: u, user_domain_name: Default, password: ` + canary + `, `
	scope      = `project_name: p, project_domain_name: Default`
	credential = `auth_url: "https://host:5000", application_credential_id: a, application_credential_secret: ` + canary
)

// clouds is a clouds.yaml of one cloud.
func clouds(auth string, more ...string) string {
	return "clouds:\n  one:\n    auth: {" + auth + "}\n    " + strings.Join(more, "\n    ") + "\n"
}

func TestParseClouds(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml  string
		cloud string
		allow upstream.Allow
		// want is compared with the options but for the endpoint and AllowReauth.
		want  gophercloud.AuthOptions
		scope gophercloud.AuthScope
	}{
		"names":              {yaml: clouds(byName + scope), want: gophercloud.AuthOptions{Username: "u", DomainName: "Default", Password: canary}, scope: gophercloud.AuthScope{ProjectName: "p", DomainName: "Default"}},
		"ids":                {yaml: clouds(`auth_url: "https://host/identity", user_id: x, password: ` + canary + `, project_id: y1`), want: gophercloud.AuthOptions{UserID: "x", Password: canary}, scope: gophercloud.AuthScope{ProjectID: "y1"}},
		"ids beat names":     {yaml: clouds(byName + scope + `, user_id: x, project_id: y1, user_domain_id: z, project_domain_id: z`), want: gophercloud.AuthOptions{UserID: "x", Password: canary}, scope: gophercloud.AuthScope{ProjectID: "y1"}},
		"ids of the domains": {yaml: clouds(byName + scope + `, user_domain_id: z, project_domain_id: w`), want: gophercloud.AuthOptions{Username: "u", DomainID: "z", Password: canary}, scope: gophercloud.AuthScope{ProjectName: "p", DomainID: "w"}},
		"credential":         {yaml: clouds(credential, "auth_type: v3applicationcredential"), want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
		"credential by name": {yaml: clouds(`auth_url: "https://host", application_credential_name: a, username: u, user_domain_id: d, application_credential_secret: ` + canary), want: gophercloud.AuthOptions{ApplicationCredentialName: "a", Username: "u", DomainID: "d", ApplicationCredentialSecret: canary}},
		"credential's user":  {yaml: clouds(credential + ", username: u, password: p, project_name: p"), want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
		"several":            {yaml: clouds(credential) + "  two:\n    auth: {}\n", cloud: "one", want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
		"unknown fields":     {yaml: clouds(credential, "identity_api_version: 3", "volume_api_version: 2"), want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
		"http allowed":       {yaml: clouds(strings.ReplaceAll(credential, "https", "http")), allow: upstream.Allow{InsecureTLS: true}, want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
		"verify allowed":     {yaml: clouds(credential, "verify: false"), allow: upstream.Allow{InsecureTLS: true}, want: gophercloud.AuthOptions{ApplicationCredentialID: "a", ApplicationCredentialSecret: canary}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseClouds([]byte(tc.yaml), tc.cloud, nil, "gimbal/test", tc.allow)
			if err != nil {
				t.Fatal(err)
			}
			got := c.Auth
			if !got.AllowReauth || !strings.HasPrefix(got.IdentityEndpoint, "http") || got.Scope != nil && *got.Scope != tc.scope {
				t.Errorf("got %+v, scope %+v", got, got.Scope)
			}
			got.AllowReauth, got.IdentityEndpoint, got.Scope = false, "", nil
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if c.UserAgent != "gimbal/test" || c.TLS.InsecureSkipVerify != strings.Contains(tc.yaml, "verify: false") || c.AllowPlaintext != tc.allow.InsecureTLS {
				t.Errorf("config %+v", c)
			}
		})
	}
}

func TestParseCloudsEndpoints(t *testing.T) {
	for line, want := range map[string]gophercloud.Availability{
		"": "public", "interface: internal": "internal", "interface: admin": "admin", "endpoint_type: internalURL": "internal",
		"interface: public\n    endpoint_type: internal": "public",
	} {
		c, err := ParseClouds([]byte(clouds(credential, "region_name: r", line)), "", nil, "", upstream.Allow{})
		if err != nil || c.Interface != want || c.Region != "r" {
			t.Errorf("%q: %v, %v", line, c, err)
		}
	}
}

// The environment and the files of the agent don't count.
func TestParseCloudsIsAlone(t *testing.T) {
	t.Setenv("OS_PASSWORD", "x")
	t.Setenv("OS_AUTH_URL", "https://elsewhere")
	t.Setenv("OS_CLOUD", "two")
	c, err := ParseClouds([]byte(clouds(byName+scope)), "", nil, "", upstream.Allow{})
	if err != nil || c.Auth.Password != canary || c.Auth.IdentityEndpoint != "https://host:5000/v3" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseCloudsRefuses(t *testing.T) {
	const secret = `, password: ` + canary
	for name, tc := range map[string]struct {
		yaml   string
		cloud  string
		ca     string
		reason string
		says   string
	}{
		"cacert":                {yaml: clouds(byName+scope, "cacert: /etc/"+canary), reason: upstream.ReasonFilePathRefused, says: "caKey"},
		"cert":                  {yaml: clouds(byName+scope, "cert: /etc/"+canary), reason: upstream.ReasonFilePathRefused, says: "cert"},
		"key":                   {yaml: clouds(byName+scope, "key: /etc/"+canary), reason: upstream.ReasonFilePathRefused, says: "key"},
		"profile":               {yaml: clouds(byName+scope, "profile: "+canary), reason: upstream.ReasonFilePathRefused, says: "profile"},
		"cloud":                 {yaml: clouds(byName+scope, "cloud: "+canary), reason: upstream.ReasonFilePathRefused, says: "profile"},
		"verify":                {yaml: clouds(byName+scope, "verify: false"), reason: upstream.ReasonInsecureRefused, says: "verify"},
		"insecure":              {yaml: clouds(byName+scope, "insecure: true"), reason: upstream.ReasonInsecureRefused, says: "verify"},
		"http":                  {yaml: clouds(strings.Replace(byName, "https", "http", 1) + scope), reason: upstream.ReasonInsecureRefused, says: "https"},
		"token":                 {yaml: clouds(byName + scope + ", token: " + canary), reason: ReasonInvalidClouds, says: "token is refused"},
		"trust":                 {yaml: clouds(byName + "trust_id: " + canary), reason: ReasonInvalidClouds, says: "trust_id"},
		"system scope":          {yaml: clouds(byName + "system_scope: all"), reason: ReasonInvalidClouds, says: "system_scope"},
		"auth_type":             {yaml: clouds(byName+scope, "auth_type: v3oidcpassword"), reason: ReasonInvalidClouds, says: "v3oidcpassword"},
		"version 2":             {yaml: clouds(byName+scope, "auth_type: v2password"), reason: ReasonInvalidClouds, says: "auth_type"},
		"interface":             {yaml: clouds(byName+scope, "interface: "+canary), reason: ReasonInvalidClouds, says: "interface"},
		"no auth_url":           {yaml: clouds("username: u" + secret), reason: ReasonInvalidClouds, says: "auth_url is missing"},
		"auth_url is no URL":    {yaml: clouds("auth_url: host" + secret), reason: ReasonInvalidClouds, says: "https://host:5000/v3"},
		"auth_url of a file":    {yaml: clouds(`auth_url: "file:///etc/x"` + secret), reason: ReasonInvalidClouds, says: "https://"},
		"password in auth_url":  {yaml: clouds(`auth_url: "https://u:` + canary + `@host"` + secret), reason: ReasonInvalidClouds, says: "auth_url"},
		"query in auth_url":     {yaml: clouds(`auth_url: "https://host/?a=` + canary + `"` + secret), reason: ReasonInvalidClouds, says: "auth_url"},
		"no password":           {yaml: clouds(`auth_url: "https://host", username: u, user_domain_name: d, ` + scope), reason: ReasonInvalidClouds, says: "password is missing"},
		"no user":               {yaml: clouds(`auth_url: "https://host", ` + scope + secret), reason: ReasonInvalidClouds, says: "username is missing"},
		"no domain of the user": {yaml: clouds(`auth_url: "https://host", username: u, ` + scope + secret), reason: ReasonInvalidClouds, says: "user_domain_name is missing"},
		"no project":            {yaml: clouds(byName + "project_domain_name: d"), reason: ReasonInvalidClouds, says: "project_name is missing"},
		"no project's domain":   {yaml: clouds(byName + "project_name: p"), reason: ReasonInvalidClouds, says: "project_domain_name is missing"},
		"no secret":             {yaml: clouds(`auth_url: "https://host", application_credential_id: a` + secret), reason: ReasonInvalidClouds, says: "application_credential_secret is missing"},
		"no credential":         {yaml: clouds(`auth_url: "https://host", application_credential_secret: `+canary, "auth_type: v3applicationcredential"), reason: ReasonInvalidClouds, says: "application_credential_id is missing"},
		"nobody's credential":   {yaml: clouds(`auth_url: "https://host", application_credential_name: a, application_credential_secret: ` + canary), reason: ReasonInvalidClouds, says: "username is missing"},
		"which":                 {yaml: clouds(byName+scope) + "  two: {}\n", reason: ReasonInvalidClouds, says: "has 2 clouds"},
		"missing":               {yaml: clouds(byName + scope), cloud: "two", reason: ReasonInvalidClouds, says: `"two" is missing`},
		"nothing of it":         {yaml: "clouds: {one: }", cloud: "one", reason: ReasonInvalidClouds, says: "missing"},
		"empty":                 {reason: ReasonInvalidClouds, says: "no clouds"},
		"no clouds":             {yaml: "password: " + canary, reason: ReasonInvalidClouds, says: "no clouds"},
		"no YAML":               {yaml: "clouds: [" + canary, reason: ReasonInvalidClouds, says: "can't be parsed"},
		"quoted by the parser":  {yaml: "clouds: *" + canary, reason: ReasonInvalidClouds, says: "can't be parsed"},
		"another type":          {yaml: "clouds: " + canary, reason: ReasonInvalidClouds, says: "can't be parsed"},
		"large":                 {yaml: strings.Repeat("#"+canary+"\n", 1<<17), reason: ReasonInvalidClouds, says: "bytes"},
		"CA no PEM":             {yaml: clouds(byName + scope), ca: canary, reason: ReasonInvalidClouds, says: "caKey"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseClouds([]byte(tc.yaml), tc.cloud, []byte(tc.ca), "", upstream.Allow{})
			refused := new(upstream.Rejection)
			if c != nil || !errors.As(err, &refused) || refused.Reason != tc.reason || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %s with %q", err, tc.reason, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("error %q tells a secret", err)
			}
		})
	}
}

func TestParseCloudsCA(t *testing.T) {
	c := startCloud(t, openstacktest.Size{})
	config, err := ParseClouds(c.CloudsYAML(), "test", c.CA(), "", upstream.Allow{})
	if err != nil || config.TLS.RootCAs == nil {
		t.Errorf("%+v, %v", config, err)
	}
	if config, err := ParseClouds(c.CloudsYAML(), "test", nil, "", upstream.Allow{}); err != nil || config.TLS.RootCAs != nil {
		t.Errorf("without a bundle: %+v, %v", config, err)
	}
}

func FuzzParseClouds(f *testing.F) {
	f.Add([]byte(clouds(byName + scope)))
	f.Add([]byte(clouds(credential, "verify: false")))
	f.Add([]byte("clouds: {a: &a {auth: {auth_url: x}}, b: *a}"))
	f.Fuzz(func(t *testing.T, yaml []byte) {
		c, err := ParseClouds(yaml, "", nil, "x", upstream.Allow{})
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		refused := new(upstream.Rejection)
		if err != nil && (!errors.As(err, &refused) || refused.Reason == "") {
			t.Fatalf("error %v", err)
		}
		if c != nil && (c.TLS.InsecureSkipVerify || c.Auth.TokenID != "" || !strings.HasPrefix(strings.ToLower(c.Auth.IdentityEndpoint), "https://") || c.Auth.Password+c.Auth.ApplicationCredentialSecret == "") {
			t.Fatal("refused content was let through")
		}
	})
}
