package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// busyRate is from how many bytes a second on the collector's work would be noticed.
	busyRate = 16 << 20
	// busyPercent and restPercent are how much garbage the heap may hold, in percent of what lives.
	busyPercent, restPercent = 100, 20
	memoryInterval           = 250 * time.Millisecond
)

// spareMemory has the heap hold little garbage until ctx ends, unless the user has chosen how
// much (GOGC). Most of the heap is caches that stay, and at rest nearly all time goes into
// waiting for API servers: what the collector takes more of the processor isn't noticed, what
// it gives back of memory is. It is noticed while an upstream is taken in for the first time.
func spareMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(busyPercent)
	go func() {
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		allocated, percent := allocatedBytes(), busyPercent
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			before := allocated
			allocated = allocatedBytes()
			if next := garbagePercent(allocated - before); next != percent {
				percent = next
				debug.SetGCPercent(percent)
			}
		}
	}()
}

// garbagePercent returns how much garbage the heap may hold where so many bytes were
// allocated within memoryInterval.
func garbagePercent(allocated uint64) int {
	if allocated >= uint64(busyRate*memoryInterval/time.Second) {
		return busyPercent
	}
	return restPercent
}

// allocatedBytes returns how much has been allocated since the program started.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
