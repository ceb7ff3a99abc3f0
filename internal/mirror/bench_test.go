package mirror

import (
	"fmt"
	"testing"
)

// sized is a Service of two ports with so many slices of so many endpoints.
func sized(slices, endpoints int) *Service {
	return webWith(func(s *Service) {
		template := s.Slices[0]
		s.Slices = nil
		for i := range slices {
			es := template
			es.Name, es.Endpoints = fmt.Sprintf("web-%03d", i), nil
			for j := range endpoints {
				es.Endpoints = append(es.Endpoints, Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i, j/250, j%250+1)}, Zone: "us-east-1a", Ready: true, Serving: true})
			}
			s.Slices = append(s.Slices, es)
		}
	})
}

func BenchmarkUnchanged(b *testing.B) {
	for _, size := range [][2]int{{1, 10}, {1, 100}, {10, 100}, {1, 1000}} {
		b.Run(fmt.Sprintf("slices=%d/endpoints=%d", size[0], size[1]), func(b *testing.B) {
			s := sized(size[0], size[1])
			desired, _ := east.Desired(s)
			current := applied(desired)
			b.ReportAllocs()
			for b.Loop() {
				desired, _ := east.Desired(s)
				if len(Plan(desired, current)) > 0 {
					b.Fatal("a change")
				}
			}
		})
	}
}

func BenchmarkPlanUnchanged(b *testing.B) {
	desired, _ := east.Desired(sized(1, 10))
	current := applied(desired)
	b.ReportAllocs()
	for b.Loop() {
		Plan(desired, current)
	}
}

func BenchmarkOneEndpointChanged(b *testing.B) {
	s := sized(1, 10)
	desired, _ := east.Desired(s)
	current := applied(desired)
	s.Slices[0].Endpoints[3].Ready = false
	b.ReportAllocs()
	for b.Loop() {
		desired, _ := east.Desired(s)
		if len(Plan(desired, current)) != 1 {
			b.Fatal("not one change")
		}
	}
}

func BenchmarkCheckAddress(b *testing.B) {
	var p AddressPolicy
	b.ReportAllocs()
	for b.Loop() {
		if r, _ := p.Check("10.0.0.1", "IPv4"); r != "" {
			b.Fatal(r)
		}
	}
}
