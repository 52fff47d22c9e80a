{{/*
The template of the provisioner's pod, which runs on as a Deployment or once as a Job.
Usage: include "toggle.provisionerPod" (dict "root" $ "from" .Values.homeserver "credentials" NAME-OF-THE-SECRET "restartPolicy" "Always")
*/}}
{{- define "toggle.provisionerPod" -}}
{{- $deploy := .root.Values.maubot.enabled -}}
{{- $fullname := include "toggle.fullname" .root -}}
metadata:
  labels:
    {{- include "toggle.podLabels" (dict "root" .root "component" "provisioner" "more" .root.Values.provisioner.podLabels) | nindent 4 }}
  annotations:
    checksum/files: {{ include "toggle.provisionFiles" .root | sha256sum }}
    checksum/plugin: {{ include "toggle.plugin" .root | sha256sum }}
    {{- if $deploy }}
    checksum/credentials: {{ include "toggle.credentials" .root | sha256sum }}
    {{- end }}
    {{- with .root.Values.provisioner.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "toggle.pod" .root | nindent 2 }}
  serviceAccountName: {{ $fullname }}-provisioner
  restartPolicy: {{ .restartPolicy }}
  terminationGracePeriodSeconds: 10
  {{- include "toggle.placement" .root.Values.provisioner | nindent 2 }}
  containers:
    - name: provisioner
      {{- include "toggle.container" .root | nindent 6 }}
      command: [python3, /files/provision.py, /config/provision.json]
      env:
        - {name: HOME, value: /tmp}
        - {name: PYTHONUNBUFFERED, value: "1"}
        {{- include "toggle.caEnv" (dict "name" "ca" "from" .from) | nindent 8 }}
        {{- with .root.Values.provisioner.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if $deploy }}
      readinessProbe:
        exec: {command: [test, -f, /tmp/ready]}
        periodSeconds: 5
      {{- end }}
      resources:
        {{- toYaml .root.Values.provisioner.resources | nindent 8 }}
      volumeMounts:
        - {name: files, mountPath: /files, readOnly: true}
        - {name: files, mountPath: /config, readOnly: true}
        - {name: plugin, mountPath: /plugin, readOnly: true}
        - {name: credentials, mountPath: /credentials, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if $deploy }}
        {{- include "toggle.tokenMount" . | nindent 8 }}
        {{- end }}
        {{- include "toggle.caMount" (dict "name" "ca" "from" .from) | nindent 8 }}
  volumes:
    - name: files
      configMap: {name: {{ $fullname }}-provisioner}
    - name: plugin
      configMap: {name: {{ $fullname }}-plugin}
    - name: credentials
      secret: {secretName: {{ .credentials | quote }}, defaultMode: 0440}
    - name: tmp
      emptyDir: {}
    {{- if $deploy }}
    {{- include "toggle.tokenVolume" .root | nindent 4 }}
    {{- end }}
    {{- include "toggle.caVolume" (dict "name" "ca" "from" .from) | nindent 4 }}
{{- end -}}
