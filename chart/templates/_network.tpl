{{/* Rules of NetworkPolicies. A policy knows addresses, not host names: where the values say no place, the port alone narrows. */}}

{{/* The port of a URL. Usage: include "toggle.port" "https://matrix.example.org" */}}
{{- define "toggle.port" -}}
{{- $url := urlParse . -}}
{{- $explicit := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- if $explicit -}}{{ $explicit }}
{{- else -}}{{ get (dict "https" "443" "http" "80" "postgresql" "5432" "postgres" "5432") $url.scheme }}
{{- end -}}
{{- end -}}

{{/* One rule of egress. Usage: include "toggle.egress" (dict "ports" (list 443) "to" .Values.networkPolicy.homeserver.to) */}}
{{- define "toggle.egress" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Names, in whatever way the cluster has its DNS: by a Service, by a cache on the node, over TCP when an answer is long. */}}
{{- define "toggle.egressDns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- define "toggle.egressApiServer" -}}
{{- include "toggle.egress" .Values.networkPolicy.apiServer -}}
{{- end -}}

{{- define "toggle.egressHomeserver" -}}
{{- include "toggle.egress" (dict "ports" (list (include "toggle.port" .Values.homeserver.url)) "to" .Values.networkPolicy.homeserver.to) -}}
{{- end -}}

{{/* To our maubot, by its pods; to an existing one, by its port. */}}
{{- define "toggle.egressMaubot" -}}
{{- if .Values.maubot.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "toggle.selector" (dict "root" $ "component" "maubot") | nindent 10 }}
  ports:
    - {port: 29316, protocol: TCP}
{{- else -}}
{{- include "toggle.egress" (dict "ports" (list (include "toggle.port" .Values.upload.url))) -}}
{{- end -}}
{{- end -}}

{{- define "toggle.egressDatabase" -}}
{{- $database := .Values.maubot.database -}}
{{- if $database.existingSecret -}}
{{- include "toggle.egress" (dict "ports" (list .Values.networkPolicy.database.port) "to" .Values.networkPolicy.database.to) -}}
{{- else if $database.url -}}
{{- include "toggle.egress" (dict "ports" (list (include "toggle.port" $database.url)) "to" .Values.networkPolicy.database.to) -}}
{{- end -}}
{{- end -}}

{{- define "toggle.egressIndex" -}}
{{- $from := .Values.dependencies -}}
{{- if $from.install -}}
{{- $port := .Values.networkPolicy.index.port -}}
{{- if not $from.existingSecret -}}
{{- $port = include "toggle.port" ($from.indexUrl | default "https://pypi.org") -}}
{{- end -}}
{{- include "toggle.egress" (dict "ports" (list $port) "to" .Values.networkPolicy.index.to) -}}
{{- end -}}
{{- end -}}

{{/* The release's pods that talk to maubot, and whoever else may. */}}
{{- define "toggle.ingressFrom" -}}
{{- $maubot := .Values.maubot -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "toggle.name" . }}
      app.kubernetes.io/instance: {{ .Release.Name }}
{{- if .Values.networkPolicy.ingressFrom }}
{{ toYaml .Values.networkPolicy.ingressFrom }}
{{- else if or $maubot.ingress.enabled $maubot.httpRoute.enabled }}
- namespaceSelector: {}
{{- end }}
{{- end -}}
