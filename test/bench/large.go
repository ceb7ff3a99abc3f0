package main

import (
	"context"
	"fmt"
	"time"
)

// measureEndpoints measures on an upstream of 5,000 Services with 100,000 endpoints.
func measureEndpoints(ctx context.Context, o options, r *report) error {
	w, err := syncedWorld(ctx, o, r, size{services: 5000, endpoints: 20})
	if err != nil {
		return err
	}
	defer w.close()
	gimbal, plain, err := w.singles(ctx)
	if err != nil {
		return err
	}
	r.add(row{
		what: "5000 Services with 100,000 endpoints: one change, until seen centrally, from the upstream's answer", figure: gimbal.answer.String(),
		bar: "p99 200 ms", plain: plain.answer.String() + " for its own write", met: gimbal.answer.at(99) <= 200*time.Millisecond,
	})
	return nil
}

// measureServices measures the memory that an upstream of 10,000 Services takes.
func measureServices(ctx context.Context, o options, r *report) error {
	w, err := syncedWorld(ctx, o, r, size{services: 10_000, endpoints: 10})
	if err != nil {
		return err
	}
	defer w.close()
	return w.measureMemory(120)(ctx, r)
}

// syncedWorld returns a world whose first sync is done.
func syncedWorld(ctx context.Context, o options, r *report, s size) (*world, error) {
	w, err := newWorld(ctx, o, s)
	if err != nil {
		return nil, err
	}
	if _, err = w.startGimbal(ctx); err == nil {
		var took time.Duration
		took, err = w.sync(ctx)
		r.add(row{what: fmt.Sprintf("First sync of %s", s), figure: short(took)})
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, w.settle(ctx)
}
