package controlplane

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/projectcontour/gimbal/lab/pki"
)

func TestUserKubeconfig(t *testing.T) {
	ca, err := pki.New("test")
	if err != nil {
		t.Fatal(err)
	}
	c := &ControlPlane{opts: Options{Name: "test", Address: "127.0.0.1", Port: 6443}, pki: ca}
	b, err := c.UserKubeconfig("jane", "readers")
	if err != nil {
		t.Fatal(err)
	}
	k, err := clientcmd.RESTConfigFromKubeConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if k.Host != "https://127.0.0.1:6443" || !bytes.Equal(k.CAData, c.CA()) {
		t.Errorf("server %s with the authority %s", k.Host, k.CAData)
	}
	pair, err := tls.X509KeyPair(k.CertData, k.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	if s := pair.Leaf.Subject; s.CommonName != "jane" || len(s.Organization) != 1 || s.Organization[0] != "readers" {
		t.Errorf("the certificate is for %s", s)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA())
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

func TestFirstAddress(t *testing.T) {
	for cidr, want := range map[string]string{"10.96.0.0/16": "10.96.0.1", "10.96.7.9/16": "10.96.0.1", "fd00::/112": "fd00::1"} {
		if got, err := firstAddress(cidr); err != nil || got != want {
			t.Errorf("first address of %s: %s, %v; want %s", cidr, got, err, want)
		}
	}
	if _, err := firstAddress("10.96.0.0"); err == nil {
		t.Error("an address without a length is accepted")
	}
}
