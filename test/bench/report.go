package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// row is one line of the table.
type row struct {
	what, figure, bar, plain string
	met                      bool
}

// report collects the table's rows.
type report struct {
	started time.Time
	load    string // before the start
	rows    []row
}

const header = "| What | Gimbal | Bar | Plain client, same run | |\n|---|---|---|---|---|\n"

// add prints a row as soon as it is known.
func (r *report) add(line row) {
	if len(r.rows) == 0 {
		fmt.Print(header)
	}
	r.rows = append(r.rows, line)
	fmt.Print(line)
}

func (l row) String() string {
	met := ""
	if l.bar != "" {
		met = map[bool]string{true: "met", false: "**missed**"}[l.met]
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", l.what, l.figure, l.bar, l.plain, met)
}

// writeInto replaces what the document has between its markers.
func (r *report) writeInto(file string) error {
	const begin, end = "<!-- bench -->\n", "<!-- /bench -->"
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(b, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return fmt.Errorf("%s has no markers %s and %s", file, begin[:len(begin)-1], end)
	}
	out := slices.Concat(before, []byte(begin+r.String()+end), after)
	return os.WriteFile(file, out, 0o644)
}

func (r *report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "`make bench` on %s; load average %s before it; it took %s.\n\n%s",
		machine(), r.load, time.Since(r.started).Round(time.Second), header)
	for _, line := range r.rows {
		s.WriteString(line.String())
	}
	return s.String() + "\n"
}

// machine says what the figures depend on.
func machine() string {
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return fmt.Sprintf("%d cores, %d GiB of memory, Linux %s, %s/%s", runtime.NumCPU(), memory()>>20, release, runtime.GOOS, runtime.GOARCH)
}

// load is how many tasks wanted to run on average in the last minute.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(b))[0]
}

// memory is the machine's, in KiB.
func memory() int { return procValue("/proc/meminfo", "MemTotal:") }

// procValue reads a value in kB from a file of /proc; 0 if it isn't there.
func procValue(file, name string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// times are the durations of one kind of event.
type times []time.Duration

// at returns the percentile p: the smallest duration that p % are not above.
func (t times) at(p int) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func (t times) String() string {
	return fmt.Sprintf("p50 %s, p99 %s", short(t.at(50)), short(t.at(99)))
}

func (t times) list() string {
	var all []string
	for _, d := range t {
		all = append(all, short(d))
	}
	return strings.Join(all, ", ")
}

func short(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

func megabytes(kib int) string { return fmt.Sprintf("%.0f MB", float64(kib)*1024/1e6) }
