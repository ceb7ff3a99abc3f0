package script

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// most is how many endpoints of a slice show prints; of more it prints the count.
const most = 10

// show prints the Services of the team's namespace, or of another, and their slices
// as people would read them.
func show(s *story, args []string) (string, error) {
	namespace := s.team
	if len(args) == 2 {
		namespace = args[1]
	} else if len(args) != 1 {
		return "", usage("show CLUSTER [NAMESPACE]")
	}
	c, err := s.cluster(args[0])
	if err != nil {
		return "", err
	}
	var services corev1.ServiceList
	if err := c.Do(s.ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/services", nil, &services); err != nil {
		return "", err
	}
	var parts discoveryv1.EndpointSliceList
	if err := c.Do(s.ctx, http.MethodGet, "/apis/discovery.k8s.io/v1/namespaces/"+namespace+"/endpointslices", nil, &parts); err != nil {
		return "", err
	}
	var b strings.Builder
	seen := map[string]bool{}
	called := names(services.Items)
	slices.SortStableFunc(services.Items, func(a, b corev1.Service) int {
		return strings.Compare(called.Replace(a.Name), called.Replace(b.Name))
	})
	for i := range services.Items {
		service := &services.Items[i]
		fmt.Fprintln(&b, service.Name+servicePorts(service.Spec.Ports))
		for j := range parts.Items {
			if p := &parts.Items[j]; p.Labels[discoveryv1.LabelServiceName] == service.Name {
				seen[p.Name] = true
				showSlice(&b, p)
			}
		}
	}
	for j := range parts.Items {
		if p := &parts.Items[j]; !seen[p.Name] {
			fmt.Fprintln(&b, "without a Service:")
			showSlice(&b, p)
		}
	}
	return called.Replace(b.String()), nil
}

// names puts the names of load balancers and pools in the place of their ids.
func names(services []corev1.Service) *strings.Replacer {
	const prefix = "gimbal.projectcontour.io/"
	var pairs []string
	for i := range services {
		l := services[i].Labels
		id, pool, lb := l[prefix+"service"], l[prefix+"pool"], l[prefix+"load-balancer"]
		switch {
		case pool != "":
			pairs = append(pairs, id, "pool-"+pool)
		case lb != "":
			pairs = append(pairs, id, "lb-"+lb)
		}
	}
	return strings.NewReplacer(pairs...)
}

func servicePorts(ports []corev1.ServicePort) string {
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&b, " %s=%d/%s", p.Name, p.Port, p.Protocol)
		if p.AppProtocol != nil {
			fmt.Fprintf(&b, "(%s)", *p.AppProtocol)
		}
	}
	return b.String()
}

func showSlice(b *strings.Builder, s *discoveryv1.EndpointSlice) {
	fmt.Fprintf(b, "  %s", s.Name)
	for _, p := range s.Ports {
		fmt.Fprintf(b, " %s=%d/%s", value(p.Name), value(p.Port), value(p.Protocol))
	}
	fmt.Fprintln(b)
	lines := make([]string, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		lines = append(lines, fmt.Sprintf("    %s%s\n", strings.Join(e.Addresses, ","), state(e.Conditions)))
	}
	if len(lines) > most {
		fmt.Fprintf(b, "    %d endpoints\n", len(lines))
		return
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
}

// state says what of an endpoint's conditions isn't as usual.
func state(c discoveryv1.EndpointConditions) string {
	var out string
	if c.Ready != nil && !*c.Ready {
		out += " not-ready"
	}
	if c.Serving != nil && !*c.Serving {
		out += " not-serving"
	}
	if value(c.Terminating) {
		out += " terminating"
	}
	return out
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
