// Package script has the commands of the stories: scripts that work on real
// clusters with kubectl, gimbal and what it takes to break things.
package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/projectcontour/gimbal/lab/manifests"
	"github.com/projectcontour/gimbal/lab/openstack"
)

// World is what all stories of a package share.
type World struct {
	// Root is the checkout.
	Root string
	// Gimbal and Kubectl are the programs.
	Gimbal, Kubectl string
	// Contour is a program, and ContourRelease what it was built from; empty where it isn't needed.
	Contour        string
	ContourRelease manifests.Contour
	// Central is the central cluster.
	Central *Cluster
	// Upstreams are the upstream clusters, by name.
	Upstreams []*Cluster
	// StartUpstream starts a further upstream cluster for one story, and returns what
	// ends it; nil where that can't be done.
	StartUpstream func(name, dir string) (*Cluster, func() error, error)
	// Cloud is an OpenStack that all stories share; nil where there is none.
	Cloud *Cloud
	// StartCloud starts a further one for one story, and returns what ends it; nil where
	// that can't be done.
	StartCloud func(name, dir string, settings openstack.Settings) (*Cloud, func() error, error)
	// Installed is the namespace of the Gimbal that runs in the central cluster; empty
	// where each story starts its own.
	Installed string
	// Tier is Envoy's address, and Address that of the lab around the stories; empty where there is none.
	Tier, Address string

	mu    sync.Mutex
	names map[string]string // of upstreams, and the story that uses each
	ports atomic.Uint32     // that agents were given
}

// claim gives an upstream's name to a story: agents know their central objects by it.
func (w *World) claim(upstream, story string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names == nil {
		w.names = map[string]string{}
	}
	if by, taken := w.names[upstream]; taken && by != story {
		return fmt.Errorf("upstream %s is story %s's; take another name", upstream, by)
	}
	w.names[upstream] = story
	return nil
}

// story is one running script.
type story struct {
	*World
	name string
	// namespace is that of the story's UpstreamClusters, team the one in which its
	// Services lie.
	namespace, team string
	dir             string
	environ         []string
	ctx             context.Context
	kubeconfig      *clientcmdapi.Config

	mu       sync.Mutex
	clusters map[string]*Cluster
	proxies  map[string]*proxy
	clouds   map[string]*Cloud
	ids      map[string]string // of what the story made in clouds, by kind and name
	agents   map[string]*agent
	marked   int64
	endings  []func(testscript.T)
	client   *http.Client        // of the tier
	traffic  map[string]*traffic // by host
}

// key is that of the story among a script's values.
type key struct{}

// Run runs the stories of a directory.
func Run(t *testing.T, w *World, dir string) {
	testscript.Run(t, testscript.Params{Dir: dir, Setup: w.setUp, Cmds: commands(), RequireUniqueNames: true})
}

// RunInTurn runs the stories of a directory one after the other.
func RunInTurn(t *testing.T, w *World, dir string) {
	testscript.RunT(inTurn{t}, testscript.Params{Dir: dir, Setup: w.setUp, Cmds: commands(), RequireUniqueNames: true})
}

// inTurn is a test whose subtests don't run in parallel, though they ask for it.
type inTurn struct{ *testing.T }

func (t inTurn) Parallel() {}

func (t inTurn) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(inTurn{t}) })
}

func (t inTurn) Verbose() bool { return testing.Verbose() }

func (w *World) setUp(env *testscript.Env) error {
	name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	ctx, cancel := context.WithCancel(context.Background())
	s := &story{
		World: w, name: name, namespace: name + "-gimbal", team: name, dir: env.WorkDir, ctx: ctx,
		clusters: map[string]*Cluster{w.Central.Name: w.Central},
		clouds:   map[string]*Cloud{}, ids: map[string]string{},
		proxies: map[string]*proxy{}, agents: map[string]*agent{}, traffic: map[string]*traffic{},
	}
	if w.Cloud != nil {
		s.clouds[w.Cloud.Name] = w.Cloud
	}
	if w.Installed != "" {
		// A lab may see the same story again before its namespaces are gone.
		s.namespace, s.team = w.Installed, fmt.Sprintf("%s-%04x", name, rand.IntN(1<<16))
	}
	env.Defer(cancel)
	env.Values[key{}] = s
	env.Defer(func() { s.end(env.T()) })
	bin := filepath.Join(s.dir, ".bin")
	vars := []string{
		"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + filepath.Join(s.dir, ".home"),
		"KUBECONFIG=" + s.file("kubeconfig"),
		// Discovery of the API is asked for once, not by every kubectl of every story.
		"KUBECACHEDIR=" + filepath.Join(filepath.Dir(w.Gimbal), "kubectl-cache"),
		"LAB=" + w.Address,
		"NAMESPACE=" + s.namespace,
		"ROOT=" + w.Root,
		"TEAM=" + s.team,
	}
	for _, v := range vars {
		k, value, _ := strings.Cut(v, "=")
		env.Setenv(k, value)
	}
	s.environ = append(os.Environ(), vars...)
	return errors.Join(
		os.MkdirAll(bin, 0o755),
		os.Symlink(w.Gimbal, filepath.Join(bin, "gimbal")),
		os.Symlink(w.Gimbal, filepath.Join(bin, "kubectl-gimbal")),
		os.Symlink(w.Kubectl, filepath.Join(bin, "kubectl")),
		s.furnish(),
	)
}

// atEnd has f called when the story has ended, the last one first.
func (s *story) atEnd(f func(testscript.T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endings = append(s.endings, f)
}

// end ends what the story started: the agents first, so that they see nothing of the rest.
func (s *story) end(t testscript.T) {
	s.mu.Lock()
	endings := s.endings
	s.mu.Unlock()
	for _, f := range endings {
		defer f(t)
	}
	s.endAgents(t)
}

// furnish makes the story's kubectl contexts and namespaces, and gives its agents their rights.
func (s *story) furnish() error {
	s.kubeconfig = s.Central.kubeconfig("discovery", s.namespace)
	if err := s.enter(s.Central); err != nil {
		return err
	}
	for _, u := range s.Upstreams {
		if err := s.enter(u); err != nil {
			return err
		}
	}
	if s.Installed != "" {
		return nil
	}
	return s.grant()
}

// enter adds a cluster to the story: a kubectl context and the team's namespace.
func (s *story) enter(c *Cluster) error {
	s.mu.Lock()
	s.clusters[c.Name] = c
	k := c.kubeconfig(c.Name, s.team)
	maps.Copy(s.kubeconfig.Clusters, k.Clusters)
	maps.Copy(s.kubeconfig.AuthInfos, k.AuthInfos)
	maps.Copy(s.kubeconfig.Contexts, k.Contexts)
	err := clientcmd.WriteToFile(*s.kubeconfig, s.file("kubeconfig"))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if s.Installed != "" {
		s.atEnd(func(testscript.T) { _ = c.deleteNamespace(s.team) })
	}
	return c.createNamespace(s.ctx, s.team)
}

// file returns the path of a file that the harness keeps in the story's directory.
func (s *story) file(name string) string { return filepath.Join(s.dir, "."+name) }

func (s *story) cluster(name string) (*Cluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clusters[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no cluster %q", name)
}

// path returns the path of a file of the script.
func (s *story) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(s.dir, file)
}

// read returns a file of the script with its variables expanded.
func (s *story) read(file string) (string, error) {
	b, err := os.ReadFile(s.path(file))
	if err != nil {
		return "", err
	}
	return s.expand(string(b)), nil
}

// made is what stands in files for the id of something that the story made: $ID(project/web).
var made = regexp.MustCompile(`\$ID\((\w+)/([^)]+)\)`)

// many is what stands in files for so many ports, p1 and so on with the numbers from 20001 on: $PORTS(100).
var many = regexp.MustCompile(`\$PORTS\((\d+)\)`)

func ports(match string) string {
	n, _ := strconv.Atoi(many.FindStringSubmatch(match)[1])
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("{name: p%d, port: %d}", i+1, 20001+i))
	}
	return strings.Join(list, ", ")
}

func (s *story) expand(text string) string {
	text = many.ReplaceAllStringFunc(text, ports)
	text = strings.NewReplacer("$NAMESPACE", s.namespace, "$TEAM", s.team, "$LAB", s.Address).Replace(text)
	return made.ReplaceAllStringFunc(text, func(match string) string {
		of := made.FindStringSubmatch(match)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ids[of[1]+" "+of[2]]
	})
}
