package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var all times
	for i := range 200 {
		all = append(all, time.Duration(200-i))
	}
	for p, want := range map[int]time.Duration{50: 100, 99: 198, 100: 200, 0: 1} {
		if got := all.at(p); got != want {
			t.Errorf("p%d of 1 to 200 is %d, want %d", p, got, want)
		}
	}
	if got := (times{3, 1, 2}).at(50); got != 2 {
		t.Errorf("the median of 3, 1, 2 is %d", got)
	}
	if got := (times{}).at(50); got != 0 {
		t.Errorf("the median of nothing is %d", got)
	}
}

func TestTableReplacesWhatIsBetweenTheMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &report{rows: []row{{what: "speed", figure: "2 s", bar: "1 s", plain: "3 s"}}}
	if err := r.writeInto(file); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n<!-- bench -->\n" + r.String() + "<!-- /bench -->\nafter\n"; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
