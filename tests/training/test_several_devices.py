from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from b2inst.data import CocoIndex
from b2inst.weights import load_model

#: One process of torchrun: trains into a folder; rank 1 is told to stop in its third iteration.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from b2inst.data import CocoDataset, CocoIndex, train_transforms
from b2inst.models import create_model
from b2inst.training import Schedule, train

annotations, images, out, stop = sys.argv[1:]
flips = train_transforms(shorter=64, longer_max=64)
samples = []

def transforms(*sample):
    samples.append(sample)
    if stop == "stop" and os.environ["RANK"] == "1" and len(samples) == 5:
        signal.raise_signal(signal.SIGINT)
    return flips(*sample)

torch.manual_seed(0)
train(
    create_model("b2inst-blendmask-tiny", num_classes=8),
    CocoDataset(CocoIndex.load(Path(annotations), Path(images)), transforms),
    schedule=Schedule(iterations=5, batch_size=4, log_every=1),
    seed=7, out=Path(out), device="cpu", progress=False,
)
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_exactly(index: CocoIndex, tmp_path: Path) -> None:
    """Half a minute: each of the six processes imports everything anew."""
    (tmp_path / "train.py").write_text(SCRIPT)

    def launch(out: str, stop: str = "") -> int:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        files = [str(index.annotation_file), str(index.image_dir), str(tmp_path / out)]
        root = str(Path(__file__).parents[2])
        return subprocess.run(
            [*command, "--standalone", str(tmp_path / "train.py"), *files, stop],
            env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
            timeout=300,
        ).returncode

    assert launch("whole") == 0
    assert launch("parts", "stop") != 0
    state = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 3
    assert launch("parts") == 0
    whole, parts = (load_model(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    other = parts.state_dict()
    assert all(value.equal(other[name]) for name, value in whole.state_dict().items())
    lines = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4, 5]
