package script

import (
	"strconv"
	"strings"

	"github.com/projectcontour/gimbal/lab/openstack"
)

// repeat puts as many copies as it says in the place of a list's element with the field
// repeat, in each of which $I is 1 and so on.
func repeat(v any) {
	switch v := v.(type) {
	case openstack.Object:
		repeat(map[string]any(v))
	case map[string]any:
		for k, inner := range v {
			if list, ok := inner.([]any); ok {
				v[k] = repeated(list)
			}
			repeat(v[k])
		}
	case []any:
		for _, inner := range v {
			repeat(inner)
		}
	}
}

func repeated(list []any) []any {
	var out []any
	for _, element := range list {
		m, ok := element.(map[string]any)
		n, repeats := m["repeat"].(float64)
		if !ok || !repeats {
			out = append(out, element)
			continue
		}
		for i := 1; i <= int(n); i++ {
			one := map[string]any{}
			for k, field := range m {
				if text, ok := field.(string); ok {
					field = strings.ReplaceAll(text, "$I", strconv.Itoa(i))
				}
				if k != "repeat" {
					one[k] = field
				}
			}
			out = append(out, one)
		}
	}
	return out
}
