{{/* Reading the targets of the instance's settings: the same mapping that the plugin gets. */}}

{{- define "toggle.targets" -}}
{{- get .Values.instance.settings "targets" | default (dict) | toJson -}}
{{- end -}}

{{/* JSON: namespace → plural of the resource → names of the workloads, sorted and each once. */}}
{{- define "toggle.workloads" -}}
{{- $plurals := dict "Deployment" "deployments" "StatefulSet" "statefulsets" -}}
{{- $namespaces := dict -}}
{{- range $target := include "toggle.targets" . | fromJson -}}
  {{- $namespace := $target.namespace | toString -}}
  {{- $plural := get $plurals ($target.kind | default "Deployment" | toString) -}}
  {{- $kinds := get $namespaces $namespace | default (dict) -}}
  {{- $names := append (get $kinds $plural | default (list)) ($target.name | toString) | uniq | sortAlpha -}}
  {{- $_ := set $namespaces $namespace (set $kinds $plural $names) -}}
{{- end -}}
{{- $namespaces | toJson -}}
{{- end -}}

{{/* Whether helm test has a pod: it needs maubot's service account, and so its namespace. */}}
{{- define "toggle.hasTest" -}}
{{- if or .Values.maubot.enabled (eq .Values.maubot.serviceAccount.namespace .Release.Namespace) -}}true{{- end -}}
{{- end -}}
