{{- define "rules" }}
{{- range index .Markers "kubebuilder:validation:XValidation" }} Rule: {{ markdownRenderFieldDoc .Message }}.{{ end }}
{{- end }}

{{- define "type" }}
{{- if markdownShouldRenderType . }}

## {{ .Name }}

{{ trim (replace "\n" " " .Doc) }}
{{- with index .Markers "kubebuilder:validation:XValidation" }}

The API server refuses it with one of these messages:
{{ range . }}
- {{ .Message }}
{{- end }}
{{- end }}
{{- if .References }}

Appears in:
{{- range $i, $t := .SortedReferences }}{{ if $i }},{{ end }} {{ markdownRenderTypeLink $t }}{{ end }}
{{- end }}
{{- if .Members }}

| Field | Description | Default | Validation |
|---|---|---|---|
{{- range .Members }}
| `{{ .Name }}` _{{ markdownRenderType .Type }}_ | {{ template "type_members" . }} | {{ with .Default }}{{ if not (hasPrefix "{" .) }}`{{ . }}`{{ end }}{{ end }} |
{{- $field := . }}
{{- range $i, $v := .Validation }}{{ if $i }},{{ end }} {{ markdownRenderFieldDoc (trimSuffix ": {}" $v) }}{{ end }}
{{- template "rules" $field }} |
{{- end }}
{{- end }}
{{- if .EnumValues }}

| Value | Description |
|---|---|
{{- range .EnumValues }}
| `{{ .Name }}` | {{ trim (replace "\n" " " .Doc) }} |
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
