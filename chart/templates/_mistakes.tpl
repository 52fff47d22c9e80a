{{/*
What is wrong with the values, beyond what values.schema.json sees: one line for each mistake, "path: what to do". All are gathered, so that
one run tells them all. The patterns are those of the plugin's own settings.
*/}}

{{- define "toggle.pattern.url" -}}^https?://[^/?#\s@]+(/[^?#\s]*)?${{- end -}}
{{- define "toggle.pattern.server" -}}(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(:[0-9]{1,5})?{{- end -}}
{{- define "toggle.pattern.user" -}}^@[!-9;-~]+:{{ include "toggle.pattern.server" . }}${{- end -}}
{{- define "toggle.pattern.room" -}}^![^\s:]+(:{{ include "toggle.pattern.server" . }})?${{- end -}}
{{- define "toggle.pattern.label" -}}[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?{{- end -}}
{{- define "toggle.pattern.kind" -}}^({{ include "toggle.pattern.label" . }}(\.{{ include "toggle.pattern.label" . }})*/)?{{ include "toggle.pattern.label" . }}/[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?${{- end -}}
{{- define "toggle.pattern.name" -}}^{{ include "toggle.pattern.label" . }}(\.{{ include "toggle.pattern.label" . }})*${{- end -}}

{{- define "toggle.mistakes" -}}
{{- if .Values.maubot.enabled -}}
{{- include "toggle.mistakes.homeserver" . -}}
{{- include "toggle.mistakes.bot" . -}}
{{- include "toggle.mistakes.maubot" . -}}
{{- else -}}
{{- include "toggle.mistakes.existing" . -}}
{{- end -}}
{{- include "toggle.mistakes.instance" . -}}
{{- include "toggle.mistakes.authorities" . -}}
{{- include "toggle.mistakes.package" . -}}
{{- end -}}

{{- define "toggle.mistakes.homeserver" -}}
{{- $url := .Values.homeserver.url -}}
{{- if not $url }}
homeserver.url: is missing; write the homeserver's address, such as https://matrix.example.org
{{- else if not (regexMatch (include "toggle.pattern.url" .) $url) }}
homeserver.url: write an address that begins with https:// or http://, without a password or a query, such as https://matrix.example.org
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.bot" -}}
{{- $bot := .Values.bot -}}
{{- if not $bot.userId }}
bot.userId: is missing; write the bot's Matrix ID, such as "@toggle:example.org", in quotes
{{- else if not (regexMatch (include "toggle.pattern.user" .) $bot.userId) }}
bot.userId: write a Matrix ID such as "@toggle:example.org", not {{ $bot.userId | quote }}
{{- end -}}
{{- if $bot.existingSecret -}}
{{- range $key := list "password" "jwt" "accessToken" "deviceId" "recoveryKey" -}}
{{- if get $bot $key }}
bot.{{ $key }}: bot.existingSecret is set too; keep one of them
{{- end -}}
{{- end -}}
{{- else if not (or $bot.password $bot.jwt $bot.accessToken) }}
bot: has nothing to log in with; set one of password, jwt, accessToken (with deviceId) and existingSecret
{{- else if and $bot.accessToken (not $bot.deviceId) }}
bot.deviceId: is missing; an access token belongs to a device, so write its ID
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.maubot" -}}
{{- $maubot := .Values.maubot -}}
{{- if and $maubot.database.url $maubot.database.existingSecret }}
maubot.database.url: maubot.database.existingSecret is set too; keep one of them
{{- else if and $maubot.database.url (not (regexMatch "^postgres(ql)?://[^/\\s]+/[^\\s]+$" $maubot.database.url)) }}
maubot.database.url: write postgresql://user:password@host/name, or leave it empty for SQLite on the claim
{{- end -}}
{{- if and (not $maubot.serviceAccount.create) (not $maubot.serviceAccount.name) }}
maubot.serviceAccount.name: is missing; with create false, write the name of a service account that is there
{{- end -}}
{{- if $maubot.serviceAccount.namespace }}
maubot.serviceAccount.namespace: is only for an existing maubot (maubot.enabled false); leave it empty
{{- end -}}
{{- if and $maubot.ingress.enabled (not $maubot.ingress.host) }}
maubot.ingress.host: is missing; write the host name of the web UI
{{- end -}}
{{- if and $maubot.httpRoute.enabled (not $maubot.httpRoute.parentRefs) }}
maubot.httpRoute.parentRefs: is empty; name the Gateway that the route belongs to
{{- end -}}
{{- if and $maubot.publicUrl (not (regexMatch (include "toggle.pattern.url" .) $maubot.publicUrl)) }}
maubot.publicUrl: write an address that begins with https:// or http://
{{- end -}}
{{- if .Values.upload.enabled }}
upload.enabled: is only for an existing maubot (maubot.enabled false); the provisioner brings the plugin to this one
{{- end -}}
{{- if .Values.dependencies.install -}}
{{- if and .Values.dependencies.indexUrl .Values.dependencies.existingSecret }}
dependencies.indexUrl: dependencies.existingSecret is set too; keep one of them
{{- else if and .Values.dependencies.indexUrl (not (regexMatch (include "toggle.pattern.url" .) .Values.dependencies.indexUrl)) }}
dependencies.indexUrl: write an address that begins with https:// or http://; one with a password belongs into dependencies.existingSecret
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.existing" -}}
{{- $account := .Values.maubot.serviceAccount -}}
{{- $targets := include "toggle.targets" . | fromJson -}}
{{- $rights := and .Values.rbac.create $targets -}}
{{- if and $rights (not $account.name) }}
maubot.serviceAccount.name: is missing; write the service account of the existing maubot's pod
{{- end -}}
{{- if and $rights (not $account.namespace) }}
maubot.serviceAccount.namespace: is missing; write the namespace of the existing maubot
{{- end -}}
{{- if not (or $rights .Values.upload.enabled) }}
maubot.enabled: is false, there are no rights to give (rbac.create with instance.settings.targets) and upload.enabled is false: nothing is left to install
{{- end -}}
{{- if .Values.upload.enabled -}}
{{- if not .Values.upload.url }}
upload.url: is missing; write the address of the existing maubot, such as http://maubot.maubot.svc:29316
{{- else if not (regexMatch (include "toggle.pattern.url" .) .Values.upload.url) }}
upload.url: write an address that begins with https:// or http://, such as http://maubot.maubot.svc:29316
{{- end -}}
{{- if not .Values.upload.existingSecret }}
upload.existingSecret: is missing; name a Secret with the keys username and password of an administrator of that maubot
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.instance" -}}
{{- $settings := .Values.instance.settings -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$" .Values.instance.id) }}
instance.id: write lower-case letters, digits, -, _ and ., not {{ .Values.instance.id | quote }}
{{- end -}}
{{- range $key := list "allowed_users" "viewers" -}}
{{- range $index, $user := get $settings $key | default (list) -}}
{{- if not (regexMatch (include "toggle.pattern.user" $) $user) }}
instance.settings.{{ $key }}[{{ $index }}]: write a Matrix ID such as "@alice:example.org", not {{ $user | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $room := get $settings "allowed_rooms" | default (list) -}}
{{- if not (regexMatch (include "toggle.pattern.room" $) $room) }}
instance.settings.allowed_rooms[{{ $index }}]: write a room ID such as "!abc:example.org", not {{ $room | quote }}
{{- end -}}
{{- end -}}
{{- range $key := list "maximum_age" "rollout_timeout" -}}
{{- with get $settings $key -}}
{{- if not (regexMatch "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$" .) }}
instance.settings.{{ $key }}: write a duration such as 90s, 2m or 2h30m, not {{ . | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $target := include "toggle.targets" . | fromJson -}}
{{- include "toggle.mistakes.target" (dict "name" $name "target" $target) -}}
{{- end -}}
{{- $targets := include "toggle.targets" . | fromJson -}}
{{- range $name, $members := get $settings "groups" | default (dict) -}}
{{- include "toggle.mistakes.group" (dict "name" $name "members" $members "targets" $targets) -}}
{{- end -}}
{{- end -}}

{{/* Whether a target or group can be called so. Argument: the name. */}}
{{- define "toggle.isName" -}}
{{- $words := list "all" "on" "off" "start" "stop" "restart" "status" "history" "help" "check" -}}
{{- if and (regexMatch "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$" .) (not (has . $words)) -}}true{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.group" -}}
{{- $path := printf "instance.settings.groups.%s" .name -}}
{{- if or (not (include "toggle.isName" .name)) (hasKey .targets .name) }}
{{ $path }}: take another name: lower-case letters, digits, -, _ and ., no word of the commands and no target's name
{{- end -}}
{{- if not .members }}
{{ $path }}: write a list of targets in the order of a start
{{- else if lt (len (uniq .members)) (len .members) }}
{{ $path }}: has a target twice; name each once
{{- end -}}
{{- range $index, $member := .members | default (list) -}}
{{- if not (hasKey $.targets $member) }}
{{ $path }}[{{ $index }}]: there is no target {{ $member | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.target" -}}
{{- $path := printf "instance.settings.targets.%s" .name -}}
{{- $target := .target -}}
{{- if not (include "toggle.isName" .name) }}
{{ $path }}: take another name: lower-case letters, digits, -, _ and ., and no word of the commands
{{- end -}}
{{- range $key, $pattern := dict "namespace" (printf "^%s$" (include "toggle.pattern.label" $)) "name" (include "toggle.pattern.name" $) -}}
{{- $value := get $target $key -}}
{{- if not $value }}
{{ $path }}.{{ $key }}: is missing; write the workload's {{ $key }}
{{- else if not (regexMatch $pattern $value) }}
{{ $path }}.{{ $key }}: write the workload's {{ $key }}: lower-case letters, digits and -, not {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- $builtIn := include "toggle.builtIn" $ | fromJsonArray -}}
{{- $kind := $target.kind | default "Deployment" | toString -}}
{{- if not (or (has $kind $builtIn) (regexMatch (include "toggle.pattern.kind" $) $kind)) }}
{{ $path }}.kind: write {{ join ", " $builtIn }} or apiVersion/Kind, not {{ $target.kind | quote }}
{{- end -}}
{{- with $target.resource }}
{{- if not (include "toggle.resource" $target | fromJson).custom }}
{{ $path }}.resource: take it away: the plural of {{ $kind }} is known
{{- else if not (regexMatch (printf "^%s$" (include "toggle.pattern.label" $)) .) }}
{{ $path }}.resource: write the kind's plural in lower-case letters, as kubectl api-resources has it, not {{ . | quote }}
{{- end -}}
{{- end -}}
{{- if and (hasKey $target "replicas") (ne ($target.replicas | toString) "restore") (not (regexMatch "^([1-9][0-9]{0,2}|1000)$" ($target.replicas | toString))) }}
{{ $path }}.replicas: write a whole number from 1 to 1000, or restore, not {{ $target.replicas }}
{{- end -}}
{{- range $index, $user := $target.allowed_users | default (list) -}}
{{- if not (regexMatch (include "toggle.pattern.user" $) $user) }}
{{ $path }}.allowed_users[{{ $index }}]: write a Matrix ID such as "@alice:example.org", not {{ $user | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "toggle.mistakes.authorities" -}}
{{- $values := .Values -}}
{{- range $section := list "homeserver" "dependencies" "upload" -}}
{{- $from := get $values $section -}}
{{- if and $from.caSecret $from.caConfigMap }}
{{ $section }}.caSecret: {{ $section }}.caConfigMap is set too; keep one of them
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A checkout has no chart yet: the plugin is packed into it. */}}
{{- define "toggle.mistakes.package" -}}
{{- if and (or .Values.maubot.enabled .Values.upload.enabled) (not (.Files.Get "files/plugin.mbp")) }}
files/plugin.mbp: is not in this chart; in a checkout, ./build.sh chart makes the whole one in dist/
{{- end -}}
{{- end -}}
