package process

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// ports counts those that FreePort has looked at.
var ports atomic.Uint32 //nolint:gochecknoglobals // the ports of a machine are global

// FreePort finds a port that nobody listens on, with TCP or UDP, below the range that
// the kernel takes outgoing connections' ports from: it is then still free at a restart.
// It gives none out twice, since the program that one is for needs a while to take it.
func FreePort(netNS, address string) (int, error) {
	const first, last, tries = 20000, 32000, 100
	var port int
	err := In(netNS, func() error {
		var err error
		for range tries {
			port = first + (os.Getpid()*97+int(ports.Add(1)))%(last-first)
			if err = tryPort(net.JoinHostPort(address, strconv.Itoa(port))); err == nil {
				return nil
			}
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", address, err)
	}
	return port, nil
}

func tryPort(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return c.Close()
}
