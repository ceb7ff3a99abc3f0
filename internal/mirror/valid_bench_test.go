package mirror

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

// BenchmarkValid compares the checks of valid.go with those of k8s.io/apimachinery that accept the same.
func BenchmarkValid(b *testing.B) {
	none := func(check func(string) []string) func(string) bool {
		return func(s string) bool { return len(check(s)) == 0 }
	}
	const name, key, value = "checkout-service-v2", "app.kubernetes.io/component", "checkout-7d9f_v2.1"
	for _, c := range []struct {
		name, on string
		check    func(string) bool
	}{
		{"label/ours", name, isDNSLabel},
		{"label/apimachinery", name, none(validation.IsDNS1123Label)},
		{"key/ours", key, isQualifiedName},
		{"key/apimachinery", key, none(func(s string) []string { return validation.IsQualifiedName(s) })},
		{"value/ours", value, isLabelValue},
		{"value/apimachinery", value, none(validation.IsValidLabelValue)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.check(c.on) {
					b.Fatal("refused")
				}
			}
		})
	}
}
