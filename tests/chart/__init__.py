"""The chart, as `helm template` renders it: one file for each property, over all of chart/ci/*-values.yaml."""
