package script

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// usage says how a command is called.
type usage string

func (u usage) Error() string { return "usage: " + string(u) }

// command is one of a story's; it returns its standard output.
type command func(s *story, args []string) (string, error)

// table has the commands that can be repeated by eventually and always.
func table() map[string]command {
	return map[string]command{
		"answers":    answers,
		"api":        api,
		"app":        app,
		"apply":      apply,
		"cloud":      startCloud,
		"clouds":     printClouds,
		"cluster":    startCluster,
		"condition":  condition,
		"crash":      crash,
		"contour":    runContour,
		"create":     create,
		"discover":   discover,
		"errors":     errorLines,
		"fault":      setFault,
		"flood":      flood,
		"etcd":       etcd,
		"freeze":     freeze,
		"gimbal":     runGimbal,
		"end":        end,
		"kubeconfig": printKubeconfig,
		"kubectl":    kubectl,
		"log":        readLog,
		"manifests":  writeManifests,
		"mark":       mark,
		"may":        may,
		"member":     member,
		"metric":     metric,
		"openstack":  runOpenStack,
		"pods":       pods,
		"proxy":      startProxy,
		"serve":      serve,
		"service":    service,
		"show":       show,
		"traffic":    runTraffic,
		"thaw":       thaw,
		"upstream":   upstream,
		"wait-ready": waitReady,
		"writes":     writes,
	}
}

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := table()
	all["eventually"] = eventually
	all["always"] = always
	wrapped := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range all {
		wrapped[name] = c.run
	}
	return wrapped
}

// run runs the command for testscript.
func (c command) run(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(key{}).(*story)
	out, err := c(s, args)
	_, _ = ts.Stdout().Write([]byte(out))
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	switch {
	case errors.As(err, new(usage)):
		ts.Fatalf("%v", err)
	case neg && err == nil:
		ts.Fatalf("succeeded, and should have failed")
	case !neg && err != nil:
		ts.Fatalf("%v", err)
	}
}

// attempt is a command to be repeated, and what its output should be.
type attempt struct {
	limit   time.Duration
	command command
	args    []string
	neg     bool
	holds   func(out string) bool
	what    string
}

const attemptUsage = `[DURATION] [!] COMMAND… [is TEXT | has REGEXP | lacks REGEXP | like FILE]`

// parse reads the arguments of eventually and always.
func parse(s *story, args []string, limit time.Duration) (*attempt, error) {
	a := &attempt{limit: limit, holds: func(string) bool { return true }}
	if len(args) > 0 {
		if d, err := time.ParseDuration(args[0]); err == nil {
			a.limit, args = d, args[1:]
		}
	}
	if len(args) > 0 && args[0] == "!" {
		a.neg, args = true, args[1:]
	}
	if len(args) == 0 {
		return nil, usage(attemptUsage)
	}
	if a.command = table()[args[0]]; a.command == nil {
		return nil, fmt.Errorf("there is no command %q", args[0])
	}
	args = args[1:]
	if n := len(args); n >= 2 {
		switch want := args[n-1]; args[n-2] {
		case "is":
			a.holds = func(out string) bool { return strings.TrimSpace(out) == want }
			a.what, args = fmt.Sprintf("be %q", want), args[:n-2]
		case "has", "lacks":
			re, err := regexp.Compile("(?m)" + want)
			if err != nil {
				return nil, err
			}
			wanted := args[n-2] == "has"
			a.holds = func(out string) bool { return re.MatchString(out) == wanted }
			a.what, args = fmt.Sprintf("%s %q", map[bool]string{true: "match", false: "not match"}[wanted], want), args[:n-2]
		case "like":
			text, err := s.read(want)
			if err != nil {
				return nil, err
			}
			a.holds = func(out string) bool { return strings.TrimSpace(out) == strings.TrimSpace(text) }
			a.what, args = "be\n"+text, args[:n-2]
		}
	}
	a.args = args
	return a, nil
}

// try runs the command once.
func (a *attempt) try(s *story) (out string, err error) {
	out, err = a.command(s, a.args)
	switch {
	case errors.As(err, new(usage)):
		return out, err
	case a.neg && err == nil:
		return out, errors.New("it succeeded")
	case !a.neg && err != nil:
		return out, err
	case !a.holds(out):
		return out, fmt.Errorf("the output should %s", a.what)
	}
	return out, nil
}

// eventually repeats a command until it is as it should be.
func eventually(s *story, args []string) (string, error) {
	a, err := parse(s, args, 20*time.Second)
	if err != nil {
		return "", err
	}
	start := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		out, err := a.try(s)
		if err == nil || errors.As(err, new(usage)) {
			return out, err
		}
		if time.Since(start) > a.limit {
			return out, fmt.Errorf("not within %s: %w", a.limit, err)
		}
		if err := s.pause(pause); err != nil {
			return "", err
		}
	}
}

// always repeats a command and wants it to be as it should be all the while.
func always(s *story, args []string) (string, error) {
	a, err := parse(s, args, 0)
	if err != nil {
		return "", err
	}
	if a.limit == 0 {
		return "", usage("always " + attemptUsage)
	}
	for start := time.Now(); ; {
		out, err := a.try(s)
		if err != nil {
			return out, fmt.Errorf("after %s: %w", time.Since(start).Round(time.Millisecond), err)
		}
		if time.Since(start) > a.limit {
			return out, nil
		}
		if err := s.pause(300 * time.Millisecond); err != nil {
			return "", err
		}
	}
}

// pause waits between two attempts.
func (s *story) pause(d time.Duration) error {
	select {
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// runProgram runs a program to its end in the script's directory.
func (s *story) runProgram(stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.ctx, program, args...)
	cmd.Dir = s.dir
	cmd.Env = s.environ
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
