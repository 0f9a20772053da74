"""Runs that share the time of imports: ``python -m b2inst.experiments.runs.forked``.

Reads orders, a line each, on standard input: a JSON list of a file for output, a module that has
``main``, and its arguments. The module is imported here, once. Each order then has a process of its
own, forked from this one, whose exit status is told on standard output before the next is read.

Half of that time is PyTorch's compiler with SymPy. Training cannot do without: importing
torchvision brings it by way of ``ops/roi_align.py``, and so does the first step of any optimiser
of PyTorch.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def serve() -> int:
    """Carry out orders until there are no more; returns the exit status, of the order in a fork."""
    # Without a buffer, so that the forked process is the one that sees standard input close.
    for line in open(0, "rb", buffering=0, closefd=False):  # noqa: SIM115
        output, module, *arguments = json.loads(line)
        with open(output, "ab") as file:
            os.dup2(file.fileno(), 2)
        main = importlib.import_module(module).main
        process = os.fork()
        if process == 0:
            os.dup2(2, 1)
            return int(main(arguments))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(serve())
