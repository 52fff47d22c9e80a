"""``python -m tests.stack.demo``: the whole stack with a person, or a script, at it."""
