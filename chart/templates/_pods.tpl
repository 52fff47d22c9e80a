{{/* What pods have in common. */}}

{{/* What every pod's spec begins with. No token is mounted but where a container's own volume says so. */}}
{{- define "toggle.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* What every container begins with. */}}
{{- define "toggle.container" -}}
image: {{ include "toggle.image" . | quote }}
imagePullPolicy: {{ .Values.maubot.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
{{- end -}}

{{/* Where a pod may run. Usage: include "toggle.placement" .Values.maubot */}}
{{- define "toggle.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The volume with the pod's token, which the kubelet renews; mounted only into the container that talks to the API server. */}}
{{- define "toggle.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: {{ .Values.maubot.serviceAccount.tokenExpirationSeconds | int }}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "toggle.tokenMount" -}}
- {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{/*
The volume of a CA bundle, its mount, and the variable by which Python finds it; nothing where there is none.
Usage: include "toggle.caVolume" (dict "name" "ca" "from" .Values.homeserver)
*/}}
{{- define "toggle.caVolume" -}}
{{- if .from.caSecret -}}
- name: {{ .name }}
  secret: {secretName: {{ .from.caSecret | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- else if .from.caConfigMap -}}
- name: {{ .name }}
  configMap: {name: {{ .from.caConfigMap | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end -}}
{{- end -}}

{{- define "toggle.caMount" -}}
{{- if or .from.caSecret .from.caConfigMap -}}
- {name: {{ .name }}, mountPath: /{{ .name }}, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "toggle.caEnv" -}}
{{- if or .from.caSecret .from.caConfigMap -}}
- {name: SSL_CERT_FILE, value: /{{ .name }}/ca.crt}
{{- end -}}
{{- end -}}
