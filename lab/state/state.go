// Package state is where a checkout's lab keeps its files, and what a later
// command of the same checkout reads there.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/contain"
	"github.com/projectcontour/gimbal/lab/manifests"
	"github.com/projectcontour/gimbal/lab/network"
)

// State is a lab's.
type State struct {
	// Checkout is the root of the lab's checkout.
	Checkout string
	// Dir holds the lab's files.
	Dir string
	// Process and Init are the ids of the command that runs the lab and of the
	// first process inside it.
	Process, Init int
	// Plan has the lab's clusters and addresses.
	Plan network.Plan
	// Cgroup is the name of the lab's cgroup.
	Cgroup string
	// Bare labs get clusters and nothing installed.
	Bare bool
	// Command is what to run; without one, the lab runs until it is ended.
	Command []string
	// BaseImages are the archives for every cluster, CentralImages those for the central one.
	BaseImages, CentralImages []string
	// Inside tells that the caller runs in the lab, where process ids are others.
	Inside bool `json:"-"`
	// Contour has Contour's own manifests.
	Contour manifests.Contour
}

// New is the state of a lab that the checkout at root is about to start.
func New(root string) *State {
	return &State{Checkout: root, Dir: filepath.Join("/var/tmp", "gimbal-lab-"+checkout.ID(root)), Process: os.Getpid()}
}

// dirVariable names a lab's directory in the environment of commands that run in the lab.
const dirVariable = "GIMBAL_LAB_DIR"

// file is the state's name in a lab's directory.
const file = "lab.json"

// Load reads the state of the lab that the caller runs in; or else of the lab whose own
// link the program was called by, which is on the PATH that a lab prints; or else of the
// running lab of the checkout that holds the working directory, or the program.
func Load() (*State, error) { return load(os.Args[0]) }

func load(program string) (*State, error) {
	if dir := os.Getenv(dirVariable); dir != "" {
		s, err := Read(dir)
		if err != nil {
			return nil, err
		}
		s.Inside = true
		return s, nil
	}
	if path, err := exec.LookPath(program); err == nil {
		dir := filepath.Dir(filepath.Dir(path))
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return Read(dir)
		}
	}
	s, err := running(checkout.Root())
	if err == nil {
		return s, nil
	}
	if self, err := os.Executable(); err == nil {
		if s, err := running(checkout.RootFrom(filepath.Dir(self))); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// running reads the state of the lab of the checkout at root, which has to run.
func running(root string, err error) (*State, error) {
	if err != nil {
		return nil, err
	}
	runs, err := contain.Running(checkout.ID(root))
	if err != nil {
		return nil, fmt.Errorf("look for the lab of %s: %w", root, err)
	}
	if !runs {
		return nil, fmt.Errorf("no lab of the checkout %s runs; start it with: lab up", root)
	}
	return Read(New(root).Dir)
}

// Read reads the state in dir.
func Read(dir string) (*State, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the lab in %s is only just starting or ending; try again", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	s := &State{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read the lab's state in %s: %w", dir, err)
	}
	return s, nil
}

// Make makes the directory, empty.
func (s *State) Make() error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("clear the lab's directory: %w", err)
	}
	// Mkdir rather than MkdirAll: in a directory that anybody may write to, it must not follow what is there.
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	for _, dir := range []string{s.Bin(), s.Images()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make the lab's directory: %w", err)
		}
	}
	return nil
}

// Save writes the state where Load finds it.
func (s *State) Save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	path := filepath.Join(s.Dir, file)
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	return nil
}

// Bin is the directory with links to all components' programs.
func (s *State) Bin() string { return filepath.Join(s.Dir, "bin") }

// Images is the directory of images' archives.
func (s *State) Images() string { return filepath.Join(s.Dir, "images") }

// Kubeconfig is the path of the kubeconfig with every cluster's context.
func (s *State) Kubeconfig() string { return filepath.Join(s.Dir, "kubeconfig") }

// Control is the path of the socket that the running lab listens on.
func (s *State) Control() string { return filepath.Join(s.Dir, "control.sock") }

// ClusterDir is the directory of a cluster's, or the OpenStack's, data and logs.
func (s *State) ClusterDir(name string) string { return filepath.Join(s.Dir, name) }

// Cluster returns the plan of the cluster called name.
func (s *State) Cluster(name string) (network.Cluster, error) {
	var names []string
	for _, c := range s.Plan.Clusters {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return network.Cluster{}, fmt.Errorf("the lab has no cluster %q; it has %q", name, names)
}

// OpenStack is the name of the lab's OpenStack, empty where there is none.
func (s *State) OpenStack() string { return s.Plan.Members.Name }

// Member is the path of the program that stands for a load balancer's member.
func (s *State) Member() string { return filepath.Join(s.Images(), "echo") }

// Environ is what a command that uses the lab finds in its environment, besides
// the caller's own.
func (s *State) Environ() []string {
	env := []string{
		"KUBECONFIG=" + s.Kubeconfig(),
		"GIMBAL_LAB_KUBECONFIG=" + s.Kubeconfig(),
		"GIMBAL_LAB_ADDRESS=" + s.Plan.Clusters[0].Node.String(),
		dirVariable + "=" + s.Dir,
		"PATH=" + s.Bin() + ":" + os.Getenv("PATH"),
	}
	if s.OpenStack() != "" {
		env = append(env, "GIMBAL_LAB_OPENSTACK="+s.ClusterDir(s.OpenStack()))
	}
	return env
}
