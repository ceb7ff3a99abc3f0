package cluster

import (
	_ "embed"
	"strings"
)

//go:embed coredns.yaml
var coreDNS string

// dnsManifests are those of the cluster's name server.
func (c *Cluster) dnsManifests() []byte {
	return []byte(strings.NewReplacer("DNS_ADDRESS", c.opts.DNS.String(), "DNS_IMAGE", c.opts.DNSImage).Replace(coreDNS))
}
