// Package member runs what load balancers outside of Kubernetes balance: instances of
// the sample application as plain processes, each at an address of its own.
package member

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/projectcontour/gimbal/lab/process"
)

// Member says which process to run.
type Member struct {
	// At is where it listens.
	At netip.AddrPort
	// Name is what it calls itself, and Namespace whose it is.
	Name, Namespace string
}

// Pool runs members in one network namespace. Its methods are safe for concurrent use.
type Pool struct {
	// Program is the sample application's file.
	Program string
	// Cluster is what the members call the cluster that they are in.
	Cluster string
	// NetNS is the path of the network namespace, and Range what addresses it has.
	NetNS string
	Range netip.Prefix
	// Dir takes the logs.
	Dir string

	mu      sync.Mutex
	running map[netip.AddrPort]*process.Process
}

// Start starts a member and returns once it listens.
func (p *Pool) Start(ctx context.Context, m Member) error {
	started, err := p.spawn(m)
	if err != nil {
		return fmt.Errorf("start member %s: %w", m.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return process.Await(ctx, started, func(ctx context.Context) error {
		return process.In(p.NetNS, func() error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.At.String())
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
}

func (p *Pool) spawn(m Member) (*process.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.Range.Contains(m.At.Addr()) || m.At.Port() == 0 {
		return nil, fmt.Errorf("%s is no place for one: members have addresses in %s, and a port", m.At, p.Range)
	}
	if other, ok := p.running[m.At]; ok && other.Failure() == nil {
		return nil, fmt.Errorf("%s listens on %s already; stop it first", other.Name(), m.At)
	}
	started, err := process.Start(process.Spec{
		Name: "member " + m.Name, Path: p.Program, Dir: p.Dir, NetNS: p.NetNS,
		Log: filepath.Join(p.Dir, "member-"+m.At.String()+".log"),
		Env: append(os.Environ(), fmt.Sprintf("PORTS=http=%d", m.At.Port()), "BIND="+m.At.Addr().String(),
			"CLUSTER="+p.Cluster, "NAMESPACE="+m.Namespace, "POD="+m.Name),
	})
	if err != nil {
		return nil, err
	}
	if p.running == nil {
		p.running = map[netip.AddrPort]*process.Process{}
	}
	p.running[m.At] = started
	return started, nil
}

// Stop ends the member that listens at an address and port; connections to it are
// refused from then on.
func (p *Pool) Stop(at netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.running[at]
	if !ok {
		return fmt.Errorf("stop the member at %s: there is none", at)
	}
	m.Kill()
	delete(p.running, at)
	return nil
}
