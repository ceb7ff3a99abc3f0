package script

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kubectl runs kubectl in a context.
func kubectl(s *story, args []string) (string, error) {
	if len(args) < 2 {
		return "", usage("kubectl CONTEXT ARGUMENT…")
	}
	return s.runProgram("", s.Kubectl, append([]string{"--context", args[0]}, args[1:]...)...)
}

// apply applies a file with its variables expanded.
func apply(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("apply CONTEXT FILE")
	}
	text, err := s.read(args[1])
	if err != nil {
		return "", err
	}
	return s.runProgram(text, s.Kubectl, "--context", args[0], "apply", "-f", "-")
}

// create makes many objects of one template, in which $I is 1 and so on, and $HUNDRED
// stands for the endpoints 10.$I.0.1 to 10.$I.0.100.
func create(s *story, args []string) (string, error) {
	if len(args) != 3 {
		return "", usage("create CLUSTER COUNT FILE")
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	template, err := s.read(args[2])
	if err != nil {
		return "", err
	}
	var hundred []string
	for i := 1; i <= 100; i++ {
		hundred = append(hundred, fmt.Sprintf("{addresses: [10.$I.0.%d]}", i))
	}
	template = strings.ReplaceAll(template, "$HUNDRED", strings.Join(hundred, ", "))
	group, ctx := errgroup.WithContext(s.ctx)
	group.SetLimit(8)
	for i := 1; i <= n; i++ {
		group.Go(func() error { return c.createAll(ctx, s.team, strings.ReplaceAll(template, "$I", strconv.Itoa(i))) })
	}
	return "", group.Wait()
}

// resources are where objects of a kind are created.
var resources = map[string]string{
	"Service":       "/api/v1/namespaces/%s/services",
	"Endpoints":     "/api/v1/namespaces/%s/endpoints",
	"EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices",
}

// createAll creates the objects of a text.
func (c *Cluster) createAll(ctx context.Context, namespace, text string) error {
	for _, document := range strings.Split(text, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return err
		}
		path := resources[fmt.Sprint(object["kind"])]
		if path == "" {
			return fmt.Errorf("create can't make a %v", object["kind"])
		}
		if err := c.Do(ctx, http.MethodPost, fmt.Sprintf(path, namespace), object, nil); err != nil {
			return err
		}
	}
	return nil
}

// createNamespace creates a namespace, whose objects nobody is to miss afterwards.
func (c *Cluster) createNamespace(ctx context.Context, name string) error {
	return c.Do(ctx, http.MethodPost, "/api/v1/namespaces", map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}, nil)
}

// deleteNamespace has a namespace deleted, and doesn't wait for it.
func (c *Cluster) deleteNamespace(name string) error {
	return c.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+name, nil, nil)
}

// condition prints a condition of an UpstreamCluster: its status, reason and message.
func condition(s *story, args []string) (string, error) {
	if len(args) != 2 {
		return "", usage("condition UPSTREAM TYPE")
	}
	var uc struct {
		Status struct{ Conditions []metav1.Condition }
	}
	path := "/apis/gimbal.projectcontour.io/v1alpha1/namespaces/" + s.namespace + "/upstreamclusters/" + args[0]
	if err := s.Central.Do(s.ctx, http.MethodGet, path, nil, &uc); err != nil {
		return "", err
	}
	for _, c := range uc.Status.Conditions {
		if c.Type == args[1] {
			return fmt.Sprintln(c.Status, c.Reason, c.Message), nil
		}
	}
	return "", fmt.Errorf("%s has no condition %s", args[0], args[1])
}
