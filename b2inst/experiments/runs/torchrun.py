"""torchrun, but that the last line printed is why a run failed: which process, and its reason.

``python -m b2inst.experiments.runs.torchrun --devices 4 -- -m b2inst.experiments.runs.worker …``,
on each of several machines with ``--machines 2 --endpoint HOST:PORT``, the first machine's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from b2inst.experiments.runs.processes import STOPPED, death


def main(arguments: list[str] | None = None) -> int:
    """Run Python once for each device of this machine; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m b2inst.experiments.runs.torchrun")
    parser.add_argument("--devices", type=int, required=True, help="processes on this machine")
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--endpoint", default="localhost:0", help="HOST:PORT of the first machine")
    parser.add_argument("command", nargs="+", help="arguments of Python, after --")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does: processes share the cores
    with tempfile.TemporaryDirectory(prefix="b2inst-") as logs:
        config = LaunchConfig(
            min_nodes=given.machines,
            max_nodes=given.machines,
            nproc_per_node=given.devices,
            # On one machine nobody else is to join.
            run_id=given.endpoint if given.machines > 1 else uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=given.endpoint,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)(*given.command)
        except SignalException:
            return STOPPED
        except ChildFailedError as error:
            rank, failure = cause(error.failures)
            if failure.exitcode == STOPPED:
                return STOPPED
            processes = given.devices * given.machines
            print(f"process {rank + 1} of {processes} {_reason(failure)}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


def cause(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Rank and failure of the process that failed first, before it took others with it.

    One that was killed, or told to stop, comes before those that missed it then. The last are
    those that torchrun has ended, by SIGTERM.
    """

    def order(failure: ProcessFailure) -> tuple[bool, bool, bool, int]:
        told = Path(failure.error_file)
        ended = failure.signal_name() == "SIGTERM"
        return (
            ended,
            failure.exitcode >= 0,
            failure.exitcode != STOPPED,
            told.stat().st_mtime_ns if told.is_file() else sys.maxsize,
        )

    return min(failures.items(), key=lambda item: order(item[1]))


def _reason(failure: ProcessFailure) -> str:
    told = failure.error_file_data["message"]  # of what the worker has recorded
    return f"failed: {told['message']}" if isinstance(told, dict) else death(failure.exitcode)


if __name__ == "__main__":
    sys.exit(main())
