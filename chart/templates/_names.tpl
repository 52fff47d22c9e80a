{{/* The names of the release's objects. The longest suffix, -upload-01234567, has to fit behind into 63 characters. */}}

{{- define "toggle.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "toggle.fullname" -}}
{{- $name := include "toggle.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The service account whose rights the targets need: that of our maubot, or of the existing one. */}}
{{- define "toggle.serviceAccount" -}}
{{- default (include "toggle.fullname" .) .Values.maubot.serviceAccount.name -}}
{{- end -}}

{{- define "toggle.serviceAccountNamespace" -}}
{{- ternary .Release.Namespace .Values.maubot.serviceAccount.namespace .Values.maubot.enabled -}}
{{- end -}}

{{/* Where the release's own pods reach maubot. */}}
{{- define "toggle.maubotUrl" -}}
{{- if .Values.maubot.enabled -}}
http://{{ include "toggle.fullname" . }}.{{ .Release.Namespace }}.svc:29316
{{- else -}}
{{- .Values.upload.url | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{- define "toggle.image" -}}
{{- with .Values.maubot.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Labels that stay as they are for the life of a release: what selects pods, and all that a pod and a claim have of ours. A label with the
chart's version would restart the pods for nothing.
Usage: include "toggle.selector" (dict "root" $ "component" "maubot")
*/}}
{{- define "toggle.selector" -}}
app.kubernetes.io/name: {{ include "toggle.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of an object. Usage: include "toggle.labels" (dict "root" $ "component" "maubot") */}}
{{- define "toggle.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "toggle.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: {{ .root.Chart.Name }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels of a pod: nothing that changes with the chart. Usage: include "toggle.podLabels" (dict "root" $ "component" "maubot" "more" …) */}}
{{- define "toggle.podLabels" -}}
{{ include "toggle.selector" . }}
{{- with merge (dict) (default (dict) .more) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
