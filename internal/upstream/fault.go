package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"
)

// maxMessage is the most bytes of an error's message that are kept: it may be the upstream's text.
const maxMessage = 256

// Fault is what kept a request from being answered, as far as the network and TLS tell.
type Fault int

// The faults.
const (
	NoFault            Fault = iota // there was an answer, or it can't be told
	NameUnknown                     // the server's name can't be resolved
	NotConnected                    // no connection came about
	NoAnswer                        // connected, no answer in time
	Disconnected                    // the connection broke
	UnknownAuthority                // the certificate isn't signed by a CA that is trusted
	WrongHost                       // the certificate is for another host name
	InvalidCertificate              // the certificate is expired, or invalid otherwise
	Plaintext                       // the server doesn't speak TLS
	HandshakeRefused                // the server ended the TLS handshake
)

// FaultOf returns what kept a request that failed with err from being answered.
func FaultOf(err error) Fault {
	if f := certificateFault(err); f != NoFault {
		return f
	}
	var (
		network *net.OpError
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.As(err, &dns):
		return NameUnknown
	case errors.As(err, &network) && (network.Op == "dial" || network.Op == "proxyconnect"):
		return NotConnected
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return NoAnswer
	case errors.As(err, &network):
		return Disconnected
	}
	return NoFault
}

// certificateFault recognizes a TLS handshake that failed.
func certificateFault(err error) Fault {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		other     *tls.CertificateVerificationError
		plaintext tls.RecordHeaderError
		network   *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return UnknownAuthority
	case errors.As(err, &hostname):
		return WrongHost
	case errors.As(err, &invalid), errors.As(err, &other):
		return InvalidCertificate
	case errors.As(err, &plaintext):
		return Plaintext
	case errors.As(err, &network) && network.Op == "remote error":
		return HandshakeRefused
	}
	return NoFault
}

// Reason returns the reason of the condition Reachable: ReasonServerError for NoFault.
func (f Fault) Reason() Reason {
	switch f {
	case NameUnknown, NotConnected, Disconnected:
		return ReasonUnreachable
	case NoAnswer:
		return ReasonTimeout
	case UnknownAuthority:
		return ReasonUnknownAuthority
	case WrongHost, InvalidCertificate:
		return ReasonInvalidCertificate
	case HandshakeRefused:
		return ReasonUnauthorized
	}
	return ReasonServerError
}

// Describe writes an error without what differs from one attempt to the next: a URL's
// query, the client's own port.
func Describe(err error) string {
	var (
		request *url.Error
		network *net.OpError
		dns     *net.DNSError
	)
	if errors.As(err, &dns) {
		if dns.IsTimeout {
			return "lookup " + dns.Name + ": no answer in time"
		}
		return "lookup " + dns.Name + ": " + dns.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if errors.As(err, &network) && network.Addr != nil {
		return fmt.Sprintf("%s %s: %v", network.Op, network.Addr, network.Err)
	}
	if errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}

// NewError returns an Error with a message that is Clean in place of err's own.
func NewError(reason Reason, hint, message string, err error) *Error {
	return &Error{Reason: reason, Hint: hint, Err: &failure{Clean(message), err}}
}

// failure is an error whose message is safe to show.
type failure struct {
	message string
	err     error
}

func (f *failure) Error() string { return f.message }

func (f *failure) Unwrap() error { return f.err }

// Clean cuts a message that may be the upstream's to 256 bytes and takes control characters out of it.
func Clean(s string) string {
	cut := len(s) > maxMessage
	if cut {
		s = s[:maxMessage]
	}
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if cut {
		s += "…"
	}
	return s
}
