{{/* The files that the programs read. Each changes only when what it is made from does: a pod restarts when its own did. */}}

{{/* maubot's configuration without its secrets, which start.py adds. */}}
{{- define "toggle.maubotConfiguration" -}}
{{- $level := .Values.maubot.logLevel -}}
{{- $server := regexReplaceAll "^@[^:]*:" .Values.bot.userId "" -}}
{{- dict
  "database" "sqlite:/data/maubot.db"
  "crypto_database" "default"
  "plugin_directories" (dict "upload" "/data/plugins" "load" (list "/data/plugins") "trash" "/data/trash")
  "plugin_databases" (dict "sqlite" "/data/dbs" "postgres" nil)
  "server" (dict
    "hostname" .Values.maubot.listen
    "port" 29316
    "public_url" (include "toggle.publicUrl" .)
    "ui_base_path" "/_matrix/maubot"
    "plugin_base_path" "/_matrix/maubot/plugin/"
    "override_resource_path" "/opt/maubot/frontend"
    "unshared_secret" "")
  "homeservers" (dict $server (dict "url" .Values.homeserver.url "secret" nil))
  "admins" (dict "root" "" "admin" "")
  "api_features" (dict
    "login" true "plugin" true "plugin_upload" true "instance" true "instance_database" true "client" true "client_proxy" false
    "client_auth" true "dev_open" false "log" true)
  "logging" (dict
    "version" 1
    "disable_existing_loggers" false
    "formatters" (dict "plain" (dict "format" "[%(asctime)s] [%(levelname)s@%(name)s] %(message)s"))
    "handlers" (dict "console" (dict "class" "logging.StreamHandler" "formatter" "plain"))
    "loggers" (dict
      "maubot" (dict "level" $level)
      "mau" (dict "level" $level)
      "aiohttp.access" (dict "level" (ternary "DEBUG" "WARNING" (eq $level "DEBUG"))))
    "root" (dict "level" (ternary "INFO" $level (eq $level "DEBUG")) "handlers" (list "console")))
| toPrettyJson -}}
{{- end -}}

{{- define "toggle.publicUrl" -}}
{{- $maubot := .Values.maubot -}}
{{- if $maubot.publicUrl -}}
{{- $maubot.publicUrl | trimSuffix "/" -}}
{{- else if $maubot.ingress.enabled -}}
{{ ternary "https" "http" (not (empty $maubot.ingress.tlsSecret)) }}://{{ $maubot.ingress.host }}
{{- else if and $maubot.httpRoute.enabled $maubot.httpRoute.hostnames -}}
https://{{ first $maubot.httpRoute.hostnames }}
{{- else -}}
{{- include "toggle.maubotUrl" . -}}
{{- end -}}
{{- end -}}

{{/* What provision.py is told. Its secrets are files beside it. */}}
{{- define "toggle.provisionConfiguration" -}}
{{- $common := dict "maubot" (include "toggle.maubotUrl" .) "plugin" "/plugin/plugin.mbp" "ready_file" "/tmp/ready" -}}
{{- if .Values.maubot.enabled -}}
{{- merge $common (dict
  "mode" "deploy"
  "homeserver" (.Values.homeserver.url | trimSuffix "/")
  "user" .Values.bot.userId
  "device_name" .Values.bot.deviceName
  "secret" (dict "namespace" .Release.Namespace "name" (include "toggle.fullname" .))
  "instance" (merge (dict "settings" (include "toggle.settings" . | fromJson)) (pick .Values.instance "id" "manage"))) | toPrettyJson -}}
{{- else -}}
{{- merge $common (dict "mode" "upload") | toPrettyJson -}}
{{- end -}}
{{- end -}}

{{/* What check.py, the helm test, is told: where to ask for readiness (nowhere, if that is not known), and each right that the bot needs. */}}
{{- define "toggle.checkConfiguration" -}}
{{- $rights := list -}}
{{- $diagnosis := .Values.rbac.diagnosis -}}
{{- range $namespace, $resources := include "toggle.workloads" . | fromJson -}}
  {{- range $resource := $resources -}}
    {{- range $name := $resource.names -}}
      {{- $workload := dict "namespace" $namespace "group" $resource.group "resource" $resource.plural "name" $name -}}
      {{- if $resource.custom -}}
      {{- $rights = append $rights (merge (dict "verb" "get" "subresource" "scale") $workload) -}}
      {{- end -}}
      {{- $rights = append $rights (merge (dict "verb" "patch" "subresource" "scale") $workload) -}}
      {{- $rights = append $rights (merge (dict "verb" "get") $workload) -}}
      {{- $rights = append $rights (merge (dict "verb" "watch") $workload) -}}
      {{- if and $.Values.rbac.restart $resource.restartable -}}
      {{- $rights = append $rights (merge (dict "verb" "patch") $workload) -}}
      {{- end -}}
    {{- end -}}
    {{- if and $.Values.rbac.list $resource.several -}}
    {{- $kind := dict "namespace" $namespace "group" $resource.group "resource" $resource.plural -}}
    {{- $rights = append $rights (merge (dict "verb" "list") $kind) -}}
    {{- end -}}
  {{- end -}}
  {{- if $.Values.rbac.autoscalers -}}
    {{- $hpas := dict "group" "autoscaling" "resource" "horizontalpodautoscalers" -}}
    {{- $rights = append $rights (merge (dict "namespace" $namespace "verb" "list") $hpas) -}}
    {{- $scaledObjects := dict "group" "keda.sh" "resource" "scaledobjects" -}}
    {{- $rights = append $rights (merge (dict "namespace" $namespace "verb" "list") $scaledObjects) -}}
  {{- end -}}
  {{- if $diagnosis -}}
    {{- $rights = append $rights (dict "namespace" $namespace "verb" "list" "resource" "pods") -}}
    {{- $rights = append $rights (dict "namespace" $namespace "verb" "list" "resource" "events") -}}
  {{- end -}}
{{- end -}}
{{- $readyz := "" -}}
{{- if or .Values.maubot.enabled .Values.upload.enabled -}}
{{- $readyz = printf "%s/_matrix/maubot/plugin/%s/readyz" (include "toggle.maubotUrl" .) .Values.instance.id -}}
{{- end -}}
{{- dict "readyz" $readyz "rights" $rights | toPrettyJson -}}
{{- end -}}

{{/* YAML of the files of maubot's pod. */}}
{{- define "toggle.maubotFiles" -}}
maubot.json: |
  {{- include "toggle.maubotConfiguration" . | nindent 2 }}
start.py: |
  {{- .Files.Get "files/start.py" | nindent 2 }}
{{- if .Values.dependencies.install }}
install.py: |
  {{- .Files.Get "files/install.py" | nindent 2 }}
requirements.txt: |
  {{- .Files.Get "files/requirements.txt" | nindent 2 }}
{{- end }}
{{- end -}}

{{/* YAML of the files of the provisioner: all programs but those of other pods. */}}
{{- define "toggle.provisionFiles" -}}
provision.json: |
  {{- include "toggle.provisionConfiguration" . | nindent 2 }}
{{- range $path, $text := .Files.Glob "files/*.py" }}
{{- if not (has (base $path) (list "start.py" "install.py" "check.py")) }}
{{ base $path }}: |
  {{- $text | toString | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "toggle.plugin" -}}
{{- .Files.Get "files/plugin.mbp" | b64enc -}}
{{- end -}}

{{/* YAML of the bot's credentials in the values. As data, because a server-side apply of stringData is a change each time. */}}
{{- define "toggle.credentials" -}}
{{- $bot := .Values.bot -}}
{{- range $key, $value := dict "password" $bot.password "jwt" $bot.jwt "access-token" $bot.accessToken "device-id" $bot.deviceId "recovery-key" $bot.recoveryKey -}}
{{- if $value }}
{{ $key }}: {{ $value | b64enc }}
{{- end -}}
{{- end -}}
{{- end -}}
