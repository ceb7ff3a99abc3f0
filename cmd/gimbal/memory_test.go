package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for name, tc := range map[string]struct {
		allocated uint64
		want      int
	}{
		"at rest":      {100 << 10, restPercent},
		"a change":     {3 << 20, restPercent},
		"a first sync": {20 << 20, busyPercent},
	} {
		if got := garbagePercent(tc.allocated); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestAllocatedBytesGrow(t *testing.T) {
	before := allocatedBytes()
	b := make([]byte, 1<<20)
	if after := allocatedBytes(); after < before+uint64(len(b)) {
		t.Errorf("%d bytes before, %d after a megabyte", before, after)
	}
}
