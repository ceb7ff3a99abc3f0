package script

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	corev1 "k8s.io/api/core/v1"

	"github.com/projectcontour/gimbal/lab/image"
)

//go:embed app.yaml.tmpl
var appTemplate string

const appUsage = "app CLUSTER NAME COUNT [version=V] [ports=NAME=NUMBER,…]"

// app runs so many pods of the lab's echo application, labelled app=NAME and
// image=echo, in the team's namespace; again, with another count or version, it
// changes them.
func app(s *story, args []string) (string, error) {
	if len(args) < 3 {
		return "", usage(appUsage)
	}
	type port struct{ Name, Number string }
	values := struct {
		Name, Count, Image, Version, Ports string
		Linger                             int
		ContainerPorts                     []port
	}{Name: args[1], Count: args[2], Image: image.Echo, Version: "v1", Ports: "http=8080", Linger: 5}
	for _, option := range args[3:] {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "version":
			values.Version = value
		case "ports":
			values.Ports = value
		default:
			return "", usage(appUsage)
		}
	}
	for entry := range strings.SplitSeq(values.Ports, ",") {
		name, number, _ := strings.Cut(entry, "=")
		values.ContainerPorts = append(values.ContainerPorts, port{name, number})
	}
	t, err := template.New("app").Parse(appTemplate)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, values); err != nil {
		return "", err
	}
	return s.runProgram(text.String(), s.Kubectl, "--context", args[0], "apply", "-f", "-")
}

// crash ends a pod's processes as kill -9 does: one pod of an application of the
// team, or the replica of gimbal discover that serves an upstream.
func crash(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("crash CLUSTER APPLICATION, or crash agent-of UPSTREAM")
	}
	cluster, path := args[0], "/api/v1/namespaces/"+s.team+"/pods?labelSelector=app%3D"+args[1]
	if cluster == "agent-of" {
		name, err := s.holder(args[1])
		if err != nil {
			return "", err
		}
		cluster, path = s.Central.Name, "/api/v1/namespaces/"+s.namespace+"/pods?fieldSelector=metadata.name%3D"+name
	}
	c, err := s.cluster(cluster)
	if err != nil {
		return "", err
	}
	var pods corev1.PodList
	if err := c.Do(s.ctx, http.MethodGet, path, nil, &pods); err != nil {
		return "", err
	}
	if len(pods.Items) == 0 {
		return "", fmt.Errorf("%s has no such pod", cluster)
	}
	return pods.Items[0].Name + "\n", killContainers(&pods.Items[0])
}

// holder returns the name of the pod that serves an upstream.
func (s *story) holder(upstream string) (string, error) {
	var lease struct {
		Spec struct{ HolderIdentity string }
	}
	path := "/apis/coordination.k8s.io/v1/namespaces/" + s.namespace + "/leases/gimbal-upstream-" + upstream
	if err := s.Central.Do(s.ctx, http.MethodGet, path, nil, &lease); err != nil {
		return "", err
	}
	pod, _, _ := strings.Cut(lease.Spec.HolderIdentity, "_")
	return pod, nil
}

// killContainers kills the processes of a pod of this machine but the one that holds
// its network, so that the kubelet starts its containers again. A container's
// processes are those whose cgroup has the container's id in its name.
func killContainers(pod *corev1.Pod) error {
	var ids []string
	for _, status := range pod.Status.ContainerStatuses {
		if _, id, ok := strings.Cut(status.ContainerID, "://"); ok {
			ids = append(ids, id)
		}
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return err
	}
	killed := 0
	for _, group := range groups {
		b, err := os.ReadFile(group)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		for _, id := range ids {
			if !bytes.Contains(b, []byte(id)) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(group)))
			if err != nil {
				return err
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
			killed++
		}
	}
	if killed == 0 {
		return fmt.Errorf("pod %s has no process here", pod.Name)
	}
	return nil
}

// may tells whether Gimbal's ServiceAccount of a cluster may do something there.
func may(s *story, args []string) (string, error) {
	if len(args) < 3 {
		return "", usage("may CLUSTER VERB RESOURCE [FLAG…]")
	}
	account := "system:serviceaccount:" + upstreamNamespace + ":" + upstreamAccount
	if args[0] == s.Central.Name {
		account = "system:serviceaccount:" + s.namespace + ":" + agentAccount
	}
	return s.runProgram("", s.Kubectl, append([]string{"--context", args[0], "auth", "can-i", "--as", account}, args[1:]...)...)
}
