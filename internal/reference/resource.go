package reference

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// Resource returns the page of the custom resource that a CustomResourceDefinition's manifest defines.
func Resource(manifest []byte) (string, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(manifest, &crd); err != nil {
		return "", fmt.Errorf("read the CustomResourceDefinition: %w", err)
	}
	names, version := crd.Spec.Names, crd.Spec.Versions[0]
	root := *version.Schema.OpenAPIV3Schema
	p := newPage(names.Kind, root.Description)
	p.text(fmt.Sprintf("`apiVersion: %s/%s`, %s, `kubectl get %s` or `%s`.",
		crd.Spec.Group, version.Name, strings.ToLower(string(crd.Spec.Scope)), names.Plural, strings.Join(names.ShortNames, "`, `")))
	p.checks(root)
	for _, part := range []string{"spec", "status"} {
		schema := root.Properties[part]
		p.text("## " + part)
		p.text(schema.Description)
		p.table([]string{"Field", "Type", "Default", "Meaning"}, fieldRows("", schema))
		p.checks(schema)
	}
	return p.done(), nil
}

// checks lists what the API server says where a whole object breaks a rule.
func (p *page) checks(s apiextensionsv1.JSONSchemaProps) {
	if len(s.XValidations) == 0 {
		return
	}
	p.text("The API server refuses it with one of these messages:")
	for _, r := range s.XValidations {
		fmt.Fprintf(p, "- %s\n", r.Message)
	}
	p.WriteString("\n")
}

func fieldRows(prefix string, s apiextensionsv1.JSONSchemaProps) [][]string {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f, path := s.Properties[name], prefix+name
		meaning := f.Description
		if slices.Contains(s.Required, name) {
			meaning = "Required. " + meaning
		}
		rows = append(rows, []string{quote(path), fieldType(f), fieldDefault(f), meaning + " " + limits(f) + " " + rules(f)})
		switch {
		case name == "conditions" || f.XMapType != nil:
			// Types of Kubernetes itself, known from its own reference.
		case f.Type == "object":
			rows = append(rows, fieldRows(path+".", f)...)
		case f.Type == "array" && f.Items.Schema.Type == "object":
			rows = append(rows, fieldRows(path+"[].", *f.Items.Schema)...)
		}
	}
	return rows
}

func fieldType(f apiextensionsv1.JSONSchemaProps) string {
	switch {
	case f.Type == "array":
		return "list of " + fieldType(*f.Items.Schema) + "s"
	case f.Format == "date-time":
		return "time"
	default:
		return f.Type
	}
}

func fieldDefault(f apiextensionsv1.JSONSchemaProps) string {
	if f.Default == nil || string(f.Default.Raw) == "{}" {
		return ""
	}
	return quote(strings.Trim(string(f.Default.Raw), `"`))
}

func limits(f apiextensionsv1.JSONSchemaProps) string {
	var b strings.Builder
	if len(f.Enum) > 0 {
		words := make([]string, len(f.Enum))
		for i, v := range f.Enum {
			words[i] = quote(strings.Trim(string(v.Raw), `"`))
		}
		fmt.Fprintf(&b, "One of %s. ", strings.Join(words, ", "))
	}
	if f.Minimum != nil {
		fmt.Fprintf(&b, "At least %v. ", *f.Minimum)
	}
	if f.Maximum != nil {
		fmt.Fprintf(&b, "At most %v. ", *f.Maximum)
	}
	if f.MaxItems != nil {
		fmt.Fprintf(&b, "At most %d entries. ", *f.MaxItems)
	}
	if f.MaxLength != nil {
		fmt.Fprintf(&b, "At most %d characters. ", *f.MaxLength)
	}
	return b.String()
}

func rules(s apiextensionsv1.JSONSchemaProps) string {
	var b strings.Builder
	for _, r := range s.XValidations {
		b.WriteString(sentence(r.Message) + " ")
	}
	return b.String()
}
