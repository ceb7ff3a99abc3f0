package main

import (
	"context"
	"fmt"
	"time"

	"github.com/projectcontour/gimbal/internal/mirror"
)

var small = size{services: 1000, endpoints: 10}

// measureSmall measures on an upstream of 1,000 Services with 10 endpoints each.
func measureSmall(ctx context.Context, o options, r *report) error {
	w, err := newWorld(ctx, o, small)
	if err != nil {
		return err
	}
	defer w.close()
	if _, err := w.startGimbal(ctx); err != nil {
		return err
	}
	if o.runs("sync") {
		err = w.measureSync(ctx, r)
	} else {
		_, err = w.sync(ctx)
	}
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context, *report) error
	}{
		{"memory", w.measureMemory(60)},
		{"restart", w.measureRestart},
		{"change", w.measureChange},
		{"burst", w.measureBurst},
		{"envoy", w.measureEnvoy},
	} {
		if !o.runs(part.name) {
			continue
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		say("measuring: %s", part.name)
		if err := part.measure(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// settle lets what was done before come to rest: garbage collection, compaction, watch caches.
func (w *world) settle(ctx context.Context) error { return pause(ctx, 3*time.Second) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// sync adds the upstream and returns how long it takes until a watch has seen all of it.
func (w *world) sync(ctx context.Context) (time.Duration, error) {
	say("first sync")
	start := time.Now()
	if err := w.addUpstream(ctx); err != nil {
		return 0, err
	}
	last, err := w.seen.filled(ctx, 2*w.size.services, team)
	return last.Sub(start), err
}

// plainSync is the same by a plain client, in other namespaces, that has the objects ready.
func (w *world) plainSync(ctx context.Context, objects []mirror.Objects, prefix string) (time.Duration, error) {
	say("the same by a plain client")
	start := time.Now()
	if err := w.writePlain(ctx, objects); err != nil {
		return 0, err
	}
	last, err := w.seen.filled(ctx, 2*w.size.services, starting(prefix))
	return last.Sub(start), err
}

// measureSync has Gimbal and the plain client take turns, and lets the order change.
func (w *world) measureSync(ctx context.Context, r *report) error {
	var gimbal, plain, ratios, cpu times
	for round := range w.rounds {
		prefix := fmt.Sprintf("plain-%d-", round)
		objects, err := w.makePlain(ctx, prefix, w.size.services)
		if err != nil {
			return err
		}
		var took [2]time.Duration
		for turn := range 2 {
			if err := w.settle(ctx); err != nil {
				return err
			}
			mine := (turn+round)%2 == 1
			if mine {
				before := w.cpu()
				took[0], err = w.profiledSync(ctx)
				cpu = append(cpu, w.cpu()-before)
			} else {
				took[1], err = w.plainSync(ctx, objects, prefix)
			}
			if err != nil {
				return err
			}
			if last := round == w.rounds-1; mine && !last {
				err = w.removeUpstream(ctx)
			} else if !mine {
				err = w.removePlain(ctx, prefix, objects)
			}
			if err != nil {
				return err
			}
		}
		gimbal, plain = append(gimbal, took[0]), append(plain, took[1])
		ratios = append(ratios, 1000*took[0]/took[1])
	}
	ratio := float64(ratios.at(50)) / 1000
	r.add(row{
		what:   fmt.Sprintf("First sync of %s, median of %d", w.size, w.rounds),
		figure: fmt.Sprintf("%s (%s), %.2f × the plain client's; %s of its own CPU time", short(gimbal.at(50)), gimbal.list(), ratio, short(cpu.at(50))), bar: "1.15 ×",
		plain: fmt.Sprintf("%s (%s) by 16 workers", short(plain.at(50)), plain.list()), met: ratio <= 1.15,
	})
	return nil
}

func (w *world) profiledSync(ctx context.Context) (time.Duration, error) {
	if w.pprof != "" {
		go w.profile("sync", "profile?seconds=5")
	}
	return w.sync(ctx)
}

func (s size) String() string {
	return fmt.Sprintf("%d Services × %d endpoints × 2 ports", s.services, s.endpoints)
}

// measureMemory returns a part that reads Gimbal's memory, half a minute after all is at rest.
func (w *world) measureMemory(bar int) func(context.Context, *report) error {
	return func(ctx context.Context, r *report) error {
		if err := pause(ctx, 30*time.Second); err != nil {
			return err
		}
		now, peak := w.rss()
		w.profile(fmt.Sprintf("heap-%d", w.size.services), "heap?gc=1")
		r.add(row{
			what:   fmt.Sprintf("Resident memory with %s, 30 s after the first sync", w.size),
			figure: fmt.Sprintf("%s (peak %s)", megabytes(now), megabytes(peak)), bar: fmt.Sprintf("%d MB", bar),
			plain: "", met: now*1024 <= bar*1e6,
		})
		return nil
	}
}

// restarts is how often Gimbal is started again.
const restarts = 5

// measureRestart has Gimbal start again on an unchanged world, and changes something as soon as it is ready.
func (w *world) measureRestart(ctx context.Context, r *report) error {
	before, err := w.centralWrites(ctx)
	if err != nil {
		return err
	}
	var starts, fresh times
	for i := range restarts {
		w.stopGimbal()
		start := time.Now()
		ready, err := w.startGimbal(ctx)
		if err != nil {
			return err
		}
		c, err := change(ctx, w.up, &w.apps[i].slice, w.token())
		if err != nil {
			return err
		}
		seen, err := w.seen.token(ctx, c.token)
		if err != nil {
			return err
		}
		starts, fresh = append(starts, ready.Sub(start)), append(fresh, seen.Sub(ready))
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	after, err := w.centralWrites(ctx)
	if err != nil {
		return err
	}
	writes := after - before - restarts
	now, peak := w.rss()
	r.add(row{
		what:   fmt.Sprintf("A restart with nothing changed: from readiness until a fresh change is seen centrally, median of %d", restarts),
		figure: fmt.Sprintf("%s (%s)", short(fresh.at(50)), fresh.list()), bar: "1 s", met: fresh.at(50) <= time.Second,
	})
	r.add(row{
		what:   "… from its start until it is ready",
		figure: fmt.Sprintf("%s (%s)", short(starts.at(50)), starts.list()), bar: "300 ms", met: starts.at(50) <= 300*time.Millisecond,
	})
	r.add(row{
		what: "Writes of these restarts, by the API server's count, besides the fresh changes'", figure: fmt.Sprint(writes), bar: "0", met: writes == 0,
	})
	r.add(row{what: "Resident memory 3 s after a restart", figure: fmt.Sprintf("%s (peak %s)", megabytes(now), megabytes(peak))})
	return nil
}
