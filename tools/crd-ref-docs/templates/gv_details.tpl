{{- define "gvDetails" }}
# {{ join ", " .SortedKinds }}

{{ trim (replace "\n" " " .Doc) }}

`apiVersion: {{ .GroupVersionString }}`
{{- $gv := . }}
{{- range .SortedKinds }}{{ template "type" ($gv.TypeForKind .) }}{{ end }}
{{- range .SortedTypes }}{{ if not .GVK }}{{ template "type" . }}{{ end }}{{ end }}
{{- end -}}
