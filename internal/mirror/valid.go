package mirror

// The checks below accept exactly what k8s.io/apimachinery/pkg/util/validation
// accepts, without its regular expressions: they run for every label, port and
// name of every upstream Service. BenchmarkValid compares the two.

const (
	maxLabel     = 63  // RFC 1123, section 2.1
	maxSubdomain = 253 // the API's DNS1123SubdomainMaxLength
)

// isDNSLabel reports whether s is a DNS label as RFC 1123 defines it, in lower case.
func isDNSLabel(s string) bool {
	if len(s) == 0 || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// isDNSSubdomain reports whether s is a DNS subdomain as the Kubernetes API
// defines it: dot-separated labels in lower case, at most 253 characters in all.
func isDNSSubdomain(s string) bool {
	if len(s) == 0 || len(s) > maxSubdomain {
		return false
	}
	start := true // of a label
	for i := range len(s) {
		switch c := s[i]; {
		case isLowerAlnum(c):
			start = false
		case start:
			return false
		case c == '-':
			if i+1 == len(s) || s[i+1] == '.' {
				return false
			}
		case c == '.':
			start = true
		default:
			return false
		}
	}
	return !start
}

// isQualifiedName reports whether s can be a label's key or an appProtocol:
// a name of up to 63 characters, which a DNS subdomain and a slash may precede.
func isQualifiedName(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			return isDNSSubdomain(s[:i]) && isName(s[i+1:])
		}
	}
	return isName(s)
}

// isLabelValue reports whether s can be a label's value.
func isLabelValue(s string) bool { return s == "" || isName(s) }

func isName(s string) bool {
	if len(s) == 0 || len(s) > maxLabel || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || 'A' <= c && c <= 'Z' }
