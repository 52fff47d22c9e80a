{{/* Reading the targets of the instance's settings: the same mapping that the plugin gets. */}}

{{- define "toggle.targets" -}}
{{- get .Values.instance.settings "targets" | default (dict) | toJson -}}
{{- end -}}

{{/* JSON of the instance's settings as the plugin gets them: without what only the chart must know of a target. */}}
{{- define "toggle.settings" -}}
{{- $settings := deepCopy .Values.instance.settings -}}
{{- range $target := get $settings "targets" | default (dict) -}}
  {{- $_ := unset $target "resource" -}}
{{- end -}}
{{- $settings | toJson -}}
{{- end -}}

{{/* The kinds that go by their name alone; what else can be scaled is a custom one, and named apiVersion/Kind. */}}
{{- define "toggle.builtIn" -}}
{{- list "Deployment" "StatefulSet" "ReplicaSet" | toJson -}}
{{- end -}}

{{/* JSON of a target's resource: its API group, its plural, whether it is a custom one, and whether it can be restarted.
     Argument: the target. */}}
{{- define "toggle.resource" -}}
{{- $kind := .kind | default "Deployment" | toString -}}
{{- $full := contains "/" $kind | ternary $kind (printf "apps/v1/%s" $kind) -}}
{{- $group := dir (dir $full) | trimPrefix "." -}}
{{- $custom := not (and (eq (dir $full) "apps/v1") (has (base $full) (include "toggle.builtIn" . | fromJsonArray))) -}}
{{- $restartable := and (not $custom) (has (base $full) (list "Deployment" "StatefulSet")) -}}
{{- $plural := .resource | default (printf "%ss" (base $full | lower)) -}}
{{- dict "group" $group "plural" $plural "custom" $custom "restartable" $restartable | toJson -}}
{{- end -}}

{{/* JSON: namespace → plural.group → the resource as above, with the names of the workloads, sorted and each once, and
     whether one LIST can tell of several: of a custom kind it does not say how many replicas are wanted. */}}
{{- define "toggle.workloads" -}}
{{- $namespaces := dict -}}
{{- range $target := include "toggle.targets" . | fromJson -}}
  {{- $namespace := $target.namespace | toString -}}
  {{- $resource := include "toggle.resource" $target | fromJson -}}
  {{- $key := printf "%s.%s" $resource.plural $resource.group -}}
  {{- $resources := get $namespaces $namespace | default (dict) -}}
  {{- $found := get $resources $key | default $resource -}}
  {{- $names := append ($found.names | default (list)) ($target.name | toString) | uniq | sortAlpha -}}
  {{- $_ := set $found "names" $names -}}
  {{- $_ := set $found "several" (and (not $found.custom) (gt (len $names) 1)) -}}
  {{- $_ := set $namespaces $namespace (set $resources $key $found) -}}
{{- end -}}
{{- $namespaces | toJson -}}
{{- end -}}

{{/* Whether helm test has a pod: it needs maubot's service account, and so its namespace. */}}
{{- define "toggle.hasTest" -}}
{{- if or .Values.maubot.enabled (eq .Values.maubot.serviceAccount.namespace .Release.Namespace) -}}true{{- end -}}
{{- end -}}
