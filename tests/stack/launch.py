"""Runs a command that ends when the process that asked for it ends; it knows nothing of what it runs.

    python launch.py PARENT_PID COMMAND ARGUMENT...

On Linux the kernel kills the command when its parent dies, even of SIGKILL. A launcher of its own, because the
`preexec_fn` of `subprocess` is unsafe (and a warning since Python 3.12) in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process, whatever it executes later, once `parent` is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
