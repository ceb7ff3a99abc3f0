package mirror

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Contour takes the first port of a number, and the route is invalid where that isn't TCP.
func TestPortsKeepTheirOrder(t *testing.T) {
	ports := []Port{{Name: "https", Number: 443, Protocol: corev1.ProtocolTCP}, {Name: "http3", Number: 443, Protocol: corev1.ProtocolUDP}, {Name: "admin", Number: 9000}}
	o, _ := east.Desired(webWith(func(s *Service) {
		s.Ports = ports
		s.Slices[0].Ports = []Port{{Name: "https", Number: 8443}, {Name: "http3", Number: 8443, Protocol: corev1.ProtocolUDP}, {Name: "admin", Number: 9000}}
	}))
	if got := fmt.Sprint(servicePortNames(o.Service)); got != "[https http3 admin]" {
		t.Errorf("the Service's ports are %s", got)
	}
	for i, p := range o.Slices[0].Ports {
		if *p.Name != ports[i].Name {
			t.Errorf("the slice's ports are %v", o.Slices[0].Ports)
		}
	}
}

func TestManyPorts(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) {
		s.Ports, s.Slices[0].Ports = nil, nil
		for i := range 5000 {
			s.Ports = append(s.Ports, Port{Name: fmt.Sprintf("p-%d", i), Number: int32(20_000 + i)})
		}
		s.Slices[0].Ports = s.Ports
	}))
	if len(refused) > 0 || len(o.Service.Spec.Ports) != 5000 || len(o.Slices[0].Ports) != 5000 {
		t.Errorf("refused %v", refused)
	}
}

func TestWebSocketsOverTLS(t *testing.T) {
	o, refused := east.Desired(webWith(func(s *Service) { s.Ports[0].AppProtocol = "kubernetes.io/wss" }))
	if len(refused) > 0 || *o.Service.Spec.Ports[0].AppProtocol != "https" || *o.Slices[0].Ports[0].AppProtocol != "https" {
		t.Errorf("got %v, refused %v", o, refused)
	}
}

// Of a family that the tier's nodes don't have nothing is mirrored; that is told only where nothing else is left.
func TestFamilies(t *testing.T) {
	v6 := Slice{Name: "web-6", AddressType: discoveryv1.AddressTypeIPv6, Ports: web().Slices[0].Ports,
		Endpoints: []Endpoint{{Addresses: []string{"fd42::1"}, Ready: true}}}
	for name, tc := range map[string]struct {
		families []discoveryv1.AddressType
		slices   []Slice
		names    string
		reason   Reason
	}{
		"all":           {nil, []Slice{web().Slices[0], v6}, "[us-east-web-6 us-east-web-abc]", ""},
		"both":          {[]discoveryv1.AddressType{"IPv4", "IPv6"}, []Slice{web().Slices[0], v6}, "[us-east-web-6 us-east-web-abc]", ""},
		"one of two":    {[]discoveryv1.AddressType{"IPv4"}, []Slice{web().Slices[0], v6}, "[us-east-web-abc]", ""},
		"none left":     {[]discoveryv1.AddressType{"IPv4"}, []Slice{v6}, "[]", ReasonNoFamily},
		"none there":    {[]discoveryv1.AddressType{"IPv4"}, []Slice{{Name: "web-6", AddressType: "IPv6"}}, "[]", ""},
		"not a family":  {[]discoveryv1.AddressType{"IPv4"}, []Slice{{Name: "web-x", AddressType: "FQDN", Endpoints: v6.Endpoints}}, "[]", ReasonFQDNSlice},
		"other refused": {[]discoveryv1.AddressType{"IPv6"}, []Slice{web().Slices[0]}, "[]", ReasonNoFamily},
	} {
		t.Run(name, func(t *testing.T) {
			o, refused := Rules{Backend: "us-east", Families: tc.families}.Desired(webWith(func(s *Service) { s.Slices = tc.slices }))
			names := []string{}
			for _, es := range o.Slices {
				names = append(names, es.Name)
			}
			if fmt.Sprint(names) != tc.names || (len(refused) > 0) != (tc.reason != "") || tc.reason != "" && refused[0].Reason != tc.reason {
				t.Errorf("slices %v, refused %v", names, refused)
			}
		})
	}
}

// Kubernetes makes a slice without ports of pods that don't name the target port.
func TestSliceWithoutPortsBesideOthersIsNoRefusal(t *testing.T) {
	portless := Slice{Name: "web-odd", AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []Endpoint{{Addresses: []string{"10.0.0.9"}, Ready: true}}}
	o, refused := east.Desired(webWith(func(s *Service) { s.Slices = append(s.Slices, portless) }))
	if len(refused) > 0 || len(o.Slices) != 1 {
		t.Errorf("%d slices, refused %v", len(o.Slices), refused)
	}
	o, refused = east.Desired(webWith(func(s *Service) { s.Slices = []Slice{portless} }))
	if len(refused) != 1 || refused[0].Reason != ReasonPortUnmatched || !strings.Contains(refused[0].Message, "targetPort") || len(o.Slices) != 0 {
		t.Errorf("%d slices, refused %v", len(o.Slices), refused)
	}
}
