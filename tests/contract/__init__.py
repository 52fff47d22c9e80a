"""What the plugin relies on of a Kubernetes API server, as one suite for the simulated cluster and for a real one.

The unit and integration tests are as good as the simulated cluster is like a real one: where the two differ here, it is
the simulated one that is wrong.
"""
