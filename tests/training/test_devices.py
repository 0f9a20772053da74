"""Which of a run's processes one is, by the variables that torchrun and srun set."""

from __future__ import annotations

import pytest

from b2inst.training.devices import World

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1",
    "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip
#: As Slurm 22.05 sets them in the script of a job with room for eight tasks on two nodes.
JOB = {
    "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8", "SLURM_NNODES": "2",
}  # fmt: skip
#: What differs in a process that srun started there.
STEP = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


def test_torchrun_counts_over_machines() -> None:
    place = World.from_environment(TORCHRUN)
    assert place == World(5, 8, 4, "torchrun")
    assert place.machines == 2


def test_torchrun_wins_where_srun_started_it() -> None:
    assert World.from_environment({**JOB, **STEP, **TORCHRUN}).started_by == "torchrun"


def test_srun_counts_the_tasks_of_its_step() -> None:
    assert World.from_environment({**JOB, **STEP}) == World(5, 8, 4, "srun")


@pytest.mark.parametrize(
    "alone", [{}, JOB, {**JOB, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}]
)
def test_a_single_process_is_alone_wherever_it_runs(alone: dict[str, str]) -> None:
    assert World.from_environment(alone) == World(0, 1, 1)


def test_machines_have_the_same_number_of_processes() -> None:
    with pytest.raises(ValueError, match="7 processes, 4 of them here; start the same number"):
        World.from_environment({**TORCHRUN, "WORLD_SIZE": "7"})
