package script

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/projectcontour/gimbal/lab/manifests"
)

// writeManifests writes a copy of deploy/ that needs no network, and beside it, as
// DIR-contour.yaml, the manifests of Contour's release, unchanged.
func writeManifests(s *story, args []string) (string, error) {
	if len(args) != 1 {
		return "", usage("manifests DIR")
	}
	release, err := os.ReadFile(s.ContourRelease.Release())
	if err != nil {
		return "", err
	}
	dir := s.path(args[0])
	return "", errors.Join(os.WriteFile(dir+"-contour.yaml", release, 0o644), manifests.Copy(s.Root, dir, s.ContourRelease))
}

// runContour runs Contour in the background as a pod of a cluster's namespace would: with the
// rights of its ServiceAccount there. It serves the ingress class of the namespace's name.
func runContour(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("contour CLUSTER NAMESPACE")
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	namespace := args[1]
	token, err := c.token(s.ctx, namespace, "contour")
	if err != nil {
		return "", err
	}
	kubeconfig := s.path(namespace + ".kubeconfig")
	if err := clientcmd.WriteToFile(*oneContext("contour", namespace, c.at(), &clientcmdapi.AuthInfo{Token: token}), kubeconfig); err != nil {
		return "", err
	}
	log, err := os.OpenFile(s.path(namespace+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer log.Close()
	flags := []string{
		"serve", "--kubeconfig", kubeconfig, "--insecure", "--ingress-class-name", namespace,
		"--leader-election-resource-namespace", namespace, "--envoy-service-namespace", namespace,
	}
	for _, listener := range []string{"xds", "http", "health", "debug-http"} {
		host, port, err := net.SplitHostPort(s.address())
		if err != nil {
			return "", err
		}
		flags = append(flags, "--"+listener+"-address", host, "--"+listener+"-port", port)
	}
	cmd := exec.Command(s.Contour, flags...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.Env = append(os.Environ(), "POD_NAME="+namespace, "CONTOUR_NAMESPACE="+namespace)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start Contour: %w", err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	s.atEnd(func(t testscript.T) {
		_ = cmd.Process.Kill()
		<-done
		if failed, ok := t.(interface{ Failed() bool }); ok && failed.Failed() {
			t.Log("Contour of " + namespace + " logged last:\n" + tail(log.Name(), 25))
		}
	})
	return "", nil
}
