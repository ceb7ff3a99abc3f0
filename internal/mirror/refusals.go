package mirror

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	maxRefusals = 32   // of one Service
	maxMessage  = 1000 // bytes; an event may have 1024
	maxQuoted   = 64   // bytes of an untrusted string
	maxNamed    = 3    // parts that a refusal of several names
)

// refusals collects what of one Service is refused. An upstream that sends nonsense
// can make neither the list nor a message long.
type refusals struct {
	key  Key
	list []Refusal
	more int    // refusals left out of list
	next Reason // of the first left out
}

// add adds a refusal. Untrusted strings among args must have been quoted.
func (r *refusals) add(reason Reason, format string, args ...any) {
	r.keep(Refusal{Key: r.key, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (r *refusals) keep(f Refusal) {
	if len(r.list) == maxRefusals-1 {
		if r.more == 0 {
			r.next = f.Reason
		}
		r.more++
		return
	}
	f.Message = bound(f.Message, maxMessage)
	r.list = append(r.list, f)
}

// all returns the refusals. Where there were too many, the last one counts those left out.
func (r *refusals) all() []Refusal {
	if r.more == 0 {
		return r.list
	}
	return append(r.list, Refusal{Key: r.key, Reason: r.next,
		Message: fmt.Sprintf("%d more parts of the Service are refused; mend those that are named first", r.more)})
}

// quote returns an untrusted string in quotes, escaped and cut.
func quote(s string) string {
	return strconv.Quote(bound(s, maxQuoted))
}

// few names the first of several untrusted strings in order, and counts the others.
func few(list []string) string {
	slices.Sort(list)
	named := make([]string, 0, maxNamed)
	for _, s := range list[:min(len(list), maxNamed)] {
		named = append(named, quote(s))
	}
	return strings.Join(named, ", ") + others(len(list)-len(named))
}

// others counts what isn't named.
func others(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// bound cuts s to about n bytes.
func bound(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// NameTaken returns the refusal of a Service whose central name, or that of one of its
// slices, a foreign object has.
func NameTaken(backend string, k Key) Refusal {
	return Refusal{Key: k, Reason: ReasonNameTaken, Message: fmt.Sprintf(
		"Service %s/%s, or an EndpointSlice of it, exists in the central cluster and isn't Gimbal's, or an admission policy took the label %s or the annotation %s from it; "+
			"rename or delete it, or rename the upstream's Service", k.Namespace, ServiceName(backend, k), LabelBackend, AnnotationSource)}
}
