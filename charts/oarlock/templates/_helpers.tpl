{{/* The chart's name, as app.kubernetes.io/name has it. */}}
{{- define "oarlock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of every object: the release's, with the chart's in it. 52 leaves room for what Kubernetes adds. */}}
{{- define "oarlock.fullname" -}}
{{- $name := include "oarlock.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "oarlock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oarlock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "oarlock.labels" -}}
{{ include "oarlock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: oarlock
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "oarlock.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "oarlock.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name one that exists, or let create be true" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "oarlock.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* "true" unless the configuration says `kubernetes: off` (which YAML reads as false). */}}
{{- define "oarlock.servesKubernetes" -}}
{{- $given := (default dict .Values.config).kubernetes | toString }}
{{- if not (or (eq $given "off") (eq $given "false")) }}true{{ end }}
{{- end }}

{{/* "true" unless the operator has no API, or is told not to show its conditions on its Node. */}}
{{- define "oarlock.showsConditions" -}}
{{- if and (include "oarlock.servesKubernetes" .) (ne (toString (default dict .Values.config).nodeConditions) "false") }}
{{- "true" }}
{{- end }}
{{- end }}

{{/*
The operator's configuration file. Two things get lost between values and text: whole numbers are floats by then
(10485760 would be written as 1.048576e+07), and YAML reads on and off as booleans.
*/}}
{{- define "oarlock.config" -}}
{{- range $key, $value := .Values.config }}
{{- if and (eq $key "kubernetes") (kindIs "bool" $value) }}
{{ $key }}: {{ ternary "on" "off" $value | quote }}
{{- else if kindIs "float64" $value }}
{{ $key }}: {{ $value | int64 }}
{{- else }}
{{ dict $key $value | toYaml }}
{{- end }}
{{- end }}
{{- end }}
