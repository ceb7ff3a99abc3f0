// Package lab_test runs the stories that need nodes: pods, kube-proxy, and requests
// through Envoy, in a lab that runs.
package lab_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/projectcontour/gimbal/lab/checkout"
	"github.com/projectcontour/gimbal/lab/openstack"
	"github.com/projectcontour/gimbal/test/e2e/script"
)

// together is how many stories run at a time: most of them wait most of the time.
const together = 4

var world = &script.World{}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := setUp(); err != nil {
		log.Fatalln("the stories can't run:", err)
	}
	os.Exit(m.Run())
}

// TestStories runs the stories that leave the others alone.
func TestStories(t *testing.T) {
	script.Run(t, world, "testdata/together")
}

// TestAlone runs the stories that break what the others use.
func TestAlone(t *testing.T) {
	for _, u := range world.Upstreams {
		u.API = apiServer(u.Name)
	}
	if world.Cloud != nil {
		world.Cloud.Services = services(world.Cloud.Name)
	}
	script.RunInTurn(t, world, "testdata/alone")
}

// setUp finds the lab that this runs in.
func setUp() (err error) {
	dir, kubeconfig, address := os.Getenv("GIMBAL_LAB_DIR"), os.Getenv("GIMBAL_LAB_KUBECONFIG"), os.Getenv("GIMBAL_LAB_ADDRESS")
	if dir == "" || kubeconfig == "" || address == "" {
		return errors.New("they need a lab around them: make test-stories, " +
			"or, beside a lab that runs: bin/lab exec lab -- go test -C test/e2e -count 1 ./lab")
	}
	if err := flag.Set("test.parallel", fmt.Sprint(together)); err != nil {
		return err
	}
	world.Installed, world.Tier = "gimbal-discovery", net.JoinHostPort(address, "8080")
	if world.Address, err = facing(world.Tier); err != nil {
		return err
	}
	if err := findCloud(); err != nil {
		return err
	}
	if world.Root, err = checkout.Root(); err != nil {
		return err
	}
	if world.Gimbal, err = exec.LookPath("gimbal"); err != nil {
		return err
	}
	if world.Kubectl, err = exec.LookPath("kubectl"); err != nil {
		return err
	}
	if world.Central, err = script.OpenCluster("central", kubeconfig, "central"); err != nil {
		return err
	}
	for _, name := range []string{"us-east", "us-west"} {
		u, err := script.OpenCluster(name, kubeconfig, name)
		if err != nil {
			return err
		}
		world.Upstreams = append(world.Upstreams, u)
	}
	return nil
}

// facing returns this machine's address as another one sees it.
func facing(other string) (string, error) {
	conn, err := (&net.Dialer{}).Dial("udp", other)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

// findCloud finds the lab's OpenStack, if it has one.
func findCloud() error {
	dir := os.Getenv("GIMBAL_LAB_OPENSTACK")
	if dir == "" {
		return nil
	}
	client, err := openstack.Open(filepath.Join(dir, "access.json"))
	if err != nil {
		return err
	}
	const name = "os-1"
	world.Cloud = &script.Cloud{Name: name, Client: client}
	return nil
}

// services are those of an OpenStack of the lab.
type services string

func (s services) StartService(ctx context.Context, name string) error {
	return lab(ctx, "start", string(s), name)
}
func (s services) StopService(name string) error {
	return lab(context.Background(), "stop", string(s), name)
}
func (s services) PauseService(name string) error {
	return lab(context.Background(), "pause", string(s), name)
}
func (s services) ResumeService(name string) error {
	return lab(context.Background(), "resume", string(s), name)
}

func lab(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "lab", args...).CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	return nil
}

// apiServer is the API server of a cluster of the lab.
type apiServer string

func (a apiServer) StartAPIServer(ctx context.Context) error {
	return lab(ctx, "start", string(a), "apiserver")
}
func (a apiServer) StopAPIServer() error {
	return lab(context.Background(), "stop", string(a), "apiserver")
}
func (a apiServer) PauseAPIServer() error {
	return lab(context.Background(), "pause", string(a), "apiserver")
}
func (a apiServer) ResumeAPIServer() error {
	return lab(context.Background(), "resume", string(a), "apiserver")
}
