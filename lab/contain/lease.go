package contain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// leaseDir holds one lock file for each lab and each of their index numbers.
const leaseDir = "/run/gimbal-lab"

// indexes is how many labs can run at once on a machine.
const indexes = 200

// ErrRunning means that the lab of that name runs already.
var ErrRunning = errors.New("it runs already")

// Lease is a lab's name and index number, each held by one lab at a time on a
// machine and free again when the lab and its reaper have ended, however they ended.
type Lease struct {
	// Index is at least 0 and less than 200.
	Index int

	files []*os.File
}

// Acquire takes name, which must be free, and a free index number.
func Acquire(name string) (*Lease, error) {
	if err := os.MkdirAll(leaseDir, 0o755); err != nil {
		return nil, fmt.Errorf("lease for lab %s: %w", name, err)
	}
	f, err := lock("name-" + name)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lab %s: %w", name, ErrRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("lease for lab %s: %w", name, err)
	}
	for i := range indexes {
		g, err := lock("index-" + strconv.Itoa(i))
		if err == nil {
			return &Lease{Index: i, files: []*os.File{f, g}}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lease for lab %s: %w", name, err)
		}
	}
	f.Close()
	return nil, fmt.Errorf("lab %s: %d labs run on this machine already; end one", name, indexes)
}

// Release gives the lease back at once, for a lab that came to nothing before its box was opened.
func (l *Lease) Release() {
	for _, f := range l.files {
		_ = os.Remove(f.Name())
		f.Close()
	}
	l.files = nil
}

// Running tells whether the lab of that name, or its reaper, runs.
func Running(name string) (bool, error) {
	f, err := os.Open(filepath.Join(leaseDir, "name-"+name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// lock locks a lease file. A file that its last holder removed meanwhile is no
// lease, so it is made anew.
func lock(name string) (*os.File, error) {
	path := filepath.Join(leaseDir, name)
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if named, err := os.Stat(path); err == nil && os.SameFile(held, named) {
			return f, nil
		}
		f.Close()
	}
}
