package kubernetes

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/projectcontour/gimbal/api/v1alpha1"
)

// BenchmarkKept measures the memory that Services with a slice of ten endpoints each take,
// from objects as a decoder makes them: with no string shared.
func BenchmarkKept(b *testing.B) {
	for _, addressing := range []v1alpha1.Addressing{v1alpha1.AddressingPod, v1alpha1.AddressingNodePort} {
		b.Run(string(addressing), func(b *testing.B) {
			inv, c := newInventory(), converter{addressing: addressing}
			before := heap()
			for i := range b.N {
				service, slice := typicalService(b, i)
				s, _ := c.item(service)
				e, _ := c.item(slice)
				inv.put(services, s.key, s.row)
				inv.put(endpointSlices, e.key, e.row)
			}
			b.ReportMetric(float64(heap()-before)/float64(b.N), "kept-B/op")
			runtime.KeepAlive(inv)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func typicalService(b *testing.B, i int) (*corev1.Service, *discoveryv1.EndpointSlice) {
	s := newService(fmt.Sprint("app-", i))
	s.Labels = map[string]string{
		"app.kubernetes.io/name": s.Name, "app.kubernetes.io/instance": s.Name, "app.kubernetes.io/version": "1.2.3",
		"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "app-1.2.3",
	}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Name: "metrics", Port: 9090, NodePort: 30090}}
	slice := newSlice(s.Name+"-abcde", s.Name)
	for _, name := range []string{"http", "metrics"} {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr.To(name), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)})
	}
	for j := range 10 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/250%250, i%250, j)},
			Zone:      ptr.To(fmt.Sprint("eu-central-1", j%3)), NodeName: ptr.To(fmt.Sprintf("ip-10-0-0-%d.eu-central-1.compute.internal", j)),
		})
	}
	var decodedService corev1.Service
	var decodedSlice discoveryv1.EndpointSlice
	decode(b, s, &decodedService)
	decode(b, slice, &decodedSlice)
	return &decodedService, &decodedSlice
}

func decode(b *testing.B, from interface{ Marshal() ([]byte, error) }, to interface{ Unmarshal([]byte) error }) {
	raw, err := from.Marshal()
	if err == nil {
		err = to.Unmarshal(raw)
	}
	if err != nil {
		b.Fatal(err)
	}
}
