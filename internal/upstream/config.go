package upstream

import (
	"cmp"
	"fmt"
	"regexp"
)

// ConfigReason is why a Secret's content is refused, in one word: the reason of the condition Accepted.
type ConfigReason string

// The reasons.
const (
	ReasonInvalidKubeconfig       ConfigReason = "InvalidKubeconfig"       // a kubeconfig that can't be parsed, is incomplete, or asks for what isn't supported
	ReasonInvalidClouds           ConfigReason = "InvalidClouds"           // a clouds.yaml that can't be parsed, is incomplete, or asks for what isn't supported
	ReasonCredentialPluginRefused ConfigReason = "CredentialPluginRefused" // runs a program or an auth provider
	ReasonFilePathRefused         ConfigReason = "FilePathRefused"         // reads a file of the agent
	ReasonInsecureRefused         ConfigReason = "InsecureRefused"         // the server isn't authenticated
)

// ConfigError is why a Secret's content is refused. Its message holds nothing of the
// content but the names of its entries.
type ConfigError struct {
	Reason ConfigReason
	Err    error
}

// Refuse returns a ConfigError. It wraps what the format's verb %w stands for.
func Refuse(reason ConfigReason, format string, args ...any) *ConfigError {
	return &ConfigError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// Line returns where a parser's error lies. The rest of its message may quote what it read.
func Line(err error) string {
	if at := regexp.MustCompile(`line \d{1,6}`).FindString(err.Error()); at != "" {
		return " at " + at
	}
	return ""
}

// Allow is what an operator lets credentials do that is refused otherwise.
type Allow struct {
	// InsecureTLS allows certificates that aren't verified and servers without TLS.
	InsecureTLS bool
	// ExecPlugins allows users of a kubeconfig that run a credential plugin on the agent.
	ExecPlugins bool
}

// Limits is the budget of one upstream: the most that is kept of it.
type Limits struct {
	Services  int // 10,000 where zero
	Slices    int // 50,000 where zero
	Nodes     int // 10,000 where zero
	Endpoints int // 500,000 where zero
	// Bytes is about the memory that one kind of object may take; 512 MiB where zero.
	Bytes int
}

// Defaulted returns the limits with the defaults in place of zeros.
func (l Limits) Defaulted() Limits {
	return Limits{
		Services:  cmp.Or(l.Services, 10_000),
		Slices:    cmp.Or(l.Slices, 50_000),
		Nodes:     cmp.Or(l.Nodes, 10_000),
		Endpoints: cmp.Or(l.Endpoints, 500_000),
		Bytes:     cmp.Or(l.Bytes, 512<<20),
	}
}

// TooLarge says that the upstream goes past its budget.
type TooLarge struct {
	Limit int
	// What there is too much of: "services", "bytes of services".
	What string
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("the upstream has more than %d %s", e.Limit, e.What)
}
