"""A real one-node Kubernetes on this machine: built from Go's module proxy, run in a network namespace of its own.

API server with RBAC and an audit log, scheduler, controllers, kubelet with containerd and runc, kube-proxy and DNS;
kwok for nodes that are only pretended. No Docker and no registry. It needs root, Linux and Go.
"""
