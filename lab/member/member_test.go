package member_test

import (
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projectcontour/gimbal/lab/member"
	"github.com/projectcontour/gimbal/lab/process"
)

func TestPool(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "echo")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/echo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port, err := process.FreePort("", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	p := &member.Pool{Program: program, Cluster: "os-1", Range: netip.MustParsePrefix("127.0.0.0/24"), Dir: dir}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	m := member.Member{At: at, Name: "m1", Namespace: "team-a"}
	if err := p.Start(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), m); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("two members at one address: %v", err)
	}
	if err := p.Stop(at); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", at.String()); err == nil {
		conn.Close()
		t.Error("a stopped member listens")
	}
	if err := p.Stop(at); err == nil {
		t.Error("stopping a stopped member worked")
	}
	m.At = netip.MustParseAddrPort("10.0.0.1:80")
	if err := p.Start(t.Context(), m); err == nil || !strings.Contains(err.Error(), "127.0.0.0/24") {
		t.Errorf("a member outside the range: %v", err)
	}
}
