// Command bench measures Gimbal on real control planes, each figure beside what
// a plain client takes for the same in the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// options are the command line's.
type options struct {
	parts  []string
	rounds int
	gimbal string
	write  string
	pprof  string
}

// parts are what can be measured, in order.
var parts = []string{"sync", "restart", "change", "burst", "memory", "envoy", "large", "cloud", "projects"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = start(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var chosen string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&chosen, "run", strings.Join(parts, ","), "what to measure, separated by commas")
	f.IntVar(&o.rounds, "rounds", 5, "how often the first sync and the plain client's writes are repeated, in turns")
	f.StringVar(&o.gimbal, "gimbal", "", "the program to measure (default: built from this checkout)")
	f.StringVar(&o.write, "write", "", "the document to write the table into, between its markers")
	f.StringVar(&o.pprof, "pprof", "", "a directory to write CPU and heap profiles of gimbal to")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for part := range strings.SplitSeq(chosen, ",") {
		if !slices.Contains(parts, part) {
			return o, fmt.Errorf("-run: %q is none of %s", part, strings.Join(parts, ", "))
		}
		o.parts = append(o.parts, part)
	}
	return o, nil
}

func (o options) runs(part string) bool { return slices.Contains(o.parts, part) }

// start makes what is measured, which takes the network, and measures it in a network namespace.
func start(ctx context.Context, o options) error {
	if !contained() {
		programs, err := prepare(ctx, o)
		if err != nil {
			return err
		}
		defer programs.remove()
		return contain(ctx, programs)
	}
	if err := addresses(); err != nil {
		return err
	}
	ctrl.SetLogger(logr.Discard())
	r := &report{started: time.Now(), load: load()}
	if err := measure(ctx, o, r); err != nil {
		return err
	}
	if o.write != "" {
		return r.writeInto(o.write)
	}
	return nil
}

// measure runs the chosen parts, those of one world one after the other.
func measure(ctx context.Context, o options, r *report) error {
	small := []string{"sync", "restart", "change", "burst", "memory", "envoy"}
	if slices.ContainsFunc(small, o.runs) {
		if err := measureSmall(ctx, o, r); err != nil {
			return err
		}
	}
	if o.runs("large") {
		if err := measureEndpoints(ctx, o, r); err != nil {
			return err
		}
	}
	if o.runs("memory") {
		if err := measureServices(ctx, o, r); err != nil {
			return err
		}
	}
	if o.runs("cloud") {
		if err := measureCloud(ctx, o, r); err != nil {
			return err
		}
	}
	if o.runs("projects") {
		return measureProjects(ctx, o, r)
	}
	return nil
}
