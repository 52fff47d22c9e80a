"""Tests of what is deployed, in a real one-node Kubernetes."""
