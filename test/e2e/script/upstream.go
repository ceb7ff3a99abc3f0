package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// The ServiceAccounts of deploy/, on both sides.
const (
	agentAccount      = "gimbal-discovery"
	upstreamNamespace = "gimbal-upstream"
	upstreamAccount   = "gimbal-discovery"
)

// grant gives the story's agents the shipped rights, in the story's namespace
// instead of gimbal-discovery, and a kubeconfig with nothing else.
func (s *story) grant() error {
	if err := s.Central.createNamespace(s.ctx, s.namespace); err != nil {
		return err
	}
	for _, file := range []string{"role.yaml", "rolebinding.yaml"} {
		b, err := os.ReadFile(filepath.Join(s.Root, "deploy", "discovery", file))
		if err != nil {
			return err
		}
		for _, document := range strings.Split(string(b), "\n---\n") {
			if err := s.grantOne(document); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	token, err := s.Central.token(s.ctx, s.namespace, agentAccount)
	if err != nil {
		return err
	}
	return clientcmd.WriteToFile(*oneContext("central", "", s.Central.at(), &clientcmdapi.AuthInfo{Token: token}), s.file("agent-kubeconfig"))
}

const rbac = "/apis/rbac.authorization.k8s.io/v1/"

// grantOne creates one object of deploy/discovery for the story.
func (s *story) grantOne(document string) error {
	var o struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Rules    []any             `json:"rules,omitempty"`
		RoleRef  map[string]string `json:"roleRef,omitempty"`
		Subjects []map[string]any  `json:"subjects,omitempty"`
	}
	if err := yaml.Unmarshal([]byte(document), &o); err != nil {
		return err
	}
	for _, subject := range o.Subjects {
		subject["namespace"] = s.namespace
	}
	namespaced := "namespaces/" + s.namespace + "/"
	var path string
	switch o.Kind {
	case "ServiceAccount":
		path = "/api/v1/" + namespaced + "serviceaccounts"
	case "Role":
		path = rbac + namespaced + "roles"
	case "RoleBinding":
		path = rbac + namespaced + "rolebindings"
	case "ClusterRole":
		o.Metadata.Name += "-" + s.name
		path = rbac + "clusterroles"
	case "ClusterRoleBinding":
		o.Metadata.Name += "-" + s.name
		o.RoleRef["name"] += "-" + s.name
		path = rbac + "clusterrolebindings"
	default:
		return fmt.Errorf("a %q isn't expected there", o.Kind)
	}
	return s.Central.Do(s.ctx, http.MethodPost, path, o, nil)
}

// printKubeconfig prints a kubeconfig for an upstream, as its operator would hand it
// over: with the token of the shipped ServiceAccount, or with another one.
func printKubeconfig(s *story, args []string) (string, error) {
	if len(args) == 0 || len(args) > 2 {
		return "", usage("kubeconfig CLUSTER [TOKENFILE]")
	}
	file := ""
	if len(args) == 2 {
		file = args[1]
	}
	k, err := s.upstreamKubeconfig(args[0], file)
	if err != nil {
		return "", err
	}
	b, err := clientcmd.Write(*k)
	return string(b), err
}

// upstreamKubeconfig makes a kubeconfig for a cluster or a proxy before one.
func (s *story) upstreamKubeconfig(name, tokenFile string) (*clientcmdapi.Config, error) {
	s.mu.Lock()
	p := s.proxies[name]
	s.mu.Unlock()
	var at *clientcmdapi.Cluster
	if p != nil {
		at, name = p.at(), p.before.Name
	}
	c, err := s.cluster(name)
	if err != nil {
		return nil, err
	}
	if p == nil {
		at = c.at()
	}
	var token string
	if tokenFile != "" {
		b, err := os.ReadFile(s.path(tokenFile))
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(b))
	} else if token, err = c.token(s.ctx, upstreamNamespace, upstreamAccount); err != nil {
		return nil, err
	}
	return oneContext("upstream", "", at, &clientcmdapi.AuthInfo{Token: token}), nil
}

// upstream adds an upstream as an operator does: a Secret with its credentials, and an
// UpstreamCluster. Since stories share clusters and clouds it includes the team's
// namespace or project only, unless the spec in FILE names others.
func upstream(s *story, args []string) (string, error) {
	if len(args) < 2 || len(args) > 3 {
		return "", usage("upstream NAME CLUSTER|CLOUD [SPECFILE]")
	}
	name := args[0]
	if err := s.claim(name, s.name); err != nil {
		return "", err
	}
	spec := map[string]any{"namespaces": map[string]any{"include": []string{s.team}}}
	if len(args) == 3 {
		text, err := s.read(args[2])
		if err != nil {
			return "", err
		}
		var given map[string]any
		if err := yaml.Unmarshal([]byte(text), &given); err != nil {
			return "", fmt.Errorf("%s: %w", args[2], err)
		}
		maps.Copy(spec, given)
	}
	kind, defaults, data, err := s.credentials(name, args[1])
	if err != nil {
		return "", err
	}
	if given, ok := spec[kind].(map[string]any); ok {
		maps.Copy(defaults, given)
	}
	spec[kind] = defaults
	return "", s.addUpstream(name, spec, data)
}

// credentials returns the field of the spec for a cluster or a cloud, what it must say
// so that the Secret called name is used, and the Secret's content.
func (s *story) credentials(name, of string) (kind string, spec map[string]any, data map[string]string, err error) {
	if c, err := s.cloud(of); err == nil {
		return "openstack", map[string]any{
			"cloudsSecret": map[string]any{"name": name, "caKey": "ca.crt"},
			"pollInterval": "1s",
			"projects":     map[string]any{"include": []string{s.team}},
		}, c.credentials(), nil
	}
	k, err := s.upstreamKubeconfig(of, "")
	if err != nil {
		return "", nil, nil, err
	}
	b, err := clientcmd.Write(*k)
	return "kubernetes", map[string]any{"kubeconfigSecret": map[string]any{"name": name}}, map[string]string{"kubeconfig": string(b)}, err
}

func (s *story) addUpstream(name string, spec map[string]any, data map[string]string) error {
	secret := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name}, "stringData": data,
	}
	uc := map[string]any{
		"apiVersion": "gimbal.projectcontour.io/v1alpha1", "kind": "UpstreamCluster",
		"metadata": map[string]any{"name": name}, "spec": spec,
	}
	secrets := "/api/v1/namespaces/" + s.namespace + "/secrets"
	upstreams := "/apis/gimbal.projectcontour.io/v1alpha1/namespaces/" + s.namespace + "/upstreamclusters"
	if s.Installed != "" {
		s.atEnd(func(testscript.T) {
			_ = s.Central.Do(context.Background(), http.MethodDelete, upstreams+"/"+name, nil, nil)
			_ = s.Central.Do(context.Background(), http.MethodDelete, secrets+"/"+name, nil, nil)
		})
	}
	return errors.Join(
		s.Central.Do(s.ctx, http.MethodPost, secrets, secret, nil),
		s.Central.Do(s.ctx, http.MethodPost, upstreams, uc, nil),
	)
}
