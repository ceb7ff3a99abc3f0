package openstacktest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	region       = "RegionOne"
	microseconds = "2006-01-02T15:04:05.000000Z"
)

type object = map[string]any

// keystone answers what is asked below /identity.
func (c *Cloud) keystone(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Vary", "X-Auth-Token")
	w.Header().Set("x-openstack-request-id", "req-"+rand.Text())
	switch path {
	case "/v3":
		write(w, http.StatusOK, object{"version": object{
			"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
			"links":       []object{{"rel": "self", "href": c.URL() + "/identity/v3/"}},
			"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
		}})
	case "/v3/auth/tokens":
		c.issue(w, r)
	case "/v3/auth/projects":
		if expires, ok := c.tokens[r.Header.Get("X-Auth-Token")]; !ok || !c.Now().Before(expires) {
			unauthorized(w)
			return
		}
		projects := []object{}
		for _, p := range c.state.Projects {
			projects = append(projects, object{
				"id": p.ID, "name": p.Name, "domain_id": p.Domain, "description": "", "enabled": true, "parent_id": p.Domain,
				"is_domain": false, "options": object{}, "tags": []string{}, "links": object{"self": c.URL() + "/identity/v3/projects/" + p.ID},
			})
		}
		write(w, http.StatusOK, object{"projects": projects, "links": object{"next": nil, "previous": nil, "self": c.URL() + "/identity/v3/auth/projects"}})
	default:
		keystoneError(w, http.StatusNotFound, "Could not find: "+path+".")
	}
}

// issue issues a token for the user's password, or application credential, and own project.
func (c *Cloud) issue(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Auth struct {
			Identity struct {
				Methods  []string `json:"methods"`
				Password struct {
					User struct{ Password string }
				} `json:"password"`
				ApplicationCredential struct{ Secret string } `json:"application_credential"`
			} `json:"identity"`
			Scope struct{ Project object } `json:"scope"`
		} `json:"auth"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Auth.Identity.Methods) == 0 {
		keystoneError(w, http.StatusBadRequest, "Expecting to find auth in request body. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
		return
	}
	id := asked.Auth.Identity
	credential := id.ApplicationCredential.Secret == Password
	if c.state.PasswordChanged || id.Password.User.Password != Password && !credential {
		unauthorized(w)
		return
	}
	life := c.TokenLife
	if life == 0 {
		life = time.Hour
	}
	now := c.Now()
	token := "gAAAAA" + rand.Text() + rand.Text()
	c.tokens[token] = now.Add(life)
	body := object{
		"methods":   id.Methods,
		"user":      object{"domain": object{"id": "default", "name": "Default"}, "id": "11111111111111111111111111111111", "name": "gimbal", "password_expires_at": nil},
		"audit_ids": []string{rand.Text()[:22]}, "expires_at": now.Add(life).Format(microseconds), "issued_at": now.Format(microseconds),
	}
	if credential || asked.Auth.Scope.Project != nil {
		home := c.state.home()
		body["project"] = object{"domain": object{"id": home.Domain, "name": "domain " + home.Domain}, "id": home.ID, "name": home.Name}
		body["is_domain"] = false
		body["roles"] = []object{{"id": "22222222222222222222222222222222", "name": "load-balancer_global_observer"}}
		body["catalog"] = c.catalog()
	}
	w.Header().Set("X-Subject-Token", token)
	write(w, http.StatusCreated, object{"token": body})
}

// catalog has two regions, of which the other leads nowhere.
func (c *Cloud) catalog() []object {
	services := [][2]string{{"identity", "/identity"}, {"load-balancer", "/load-balancer"}}
	if c.Neutron {
		services = append(services, [2]string{"network", "/network"})
	}
	var catalog []object
	for i, s := range services {
		var endpoints []object
		for j, face := range []string{"public", "internal", "admin"} {
			for k, at := range map[string]string{region: c.URL(), "RegionTwo": "https://192.0.2.1"} {
				endpoints = append(endpoints, object{"id": fmt.Sprintf("%030x%x%s", i, j, k[6:7]), "interface": face, "region": k, "region_id": k, "url": at + s[1]})
			}
		}
		catalog = append(catalog, object{"id": fmt.Sprintf("%032x", i), "name": s[0], "type": s[0], "endpoints": endpoints})
	}
	return catalog
}

// unauthorized is what Keystone says of wrong credentials, and what Octavia's middleware says of a token that isn't valid.
func unauthorized(w http.ResponseWriter) {
	w.Header().Set("Www-Authenticate", `Keystone uri="https://keystone"`)
	keystoneError(w, http.StatusUnauthorized, "The request you have made requires authentication.")
}

func keystoneError(w http.ResponseWriter, status int, message string) {
	write(w, status, object{"error": object{"code": status, "title": http.StatusText(status), "message": message}})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}
