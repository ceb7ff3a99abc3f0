package openstack

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// maxIdentity is the most characters of an identity.
const maxIdentity = 128

// cloudIdentity says which cloud the session is with: the URL of the catalog's Octavia, and
// the id of the domain that the credential's project belongs to. Neither depends on the token.
func (s *session) cloudIdentity() string {
	return identityOf(s.octavia, s.project.Domain.ID)
}

// identityOf writes an identity in printable ASCII, with a hash in place of what is too long.
func identityOf(octavia, domain string) string {
	at := strings.TrimSuffix(octavia, octaviaAPI)
	if u, err := url.Parse(at); err == nil {
		at = (&url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: strings.TrimSuffix(u.Path, "/")}).String()
	}
	whole := at + " domain " + url.PathEscape(domain)
	if len(whole) <= maxIdentity {
		return whole
	}
	sum := sha256.Sum256([]byte(whole))
	hash := "#" + hex.EncodeToString(sum[:16])
	return whole[:maxIdentity-len(hash)] + hash
}
