"""What tests of several layers share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # PyTorch takes seconds, and the process that hands out the tests runs none
    from b2inst.structures import Targets

settings.register_profile("b2inst", deadline=None)  # a busy machine is no defect
settings.load_profile("b2inst")


#: Marks of tests that are run only when they are asked for.
NOT_BY_DEFAULT = {
    "slow": "takes a minute or so",
    "browser": "drives Chromium, takes minutes",
    "cuda": "needs a GPU",
}


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs, and CI may start anything, with Ctrl-C ignored; tests that
    # press it would wait forever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, why in NOT_BY_DEFAULT.items():
        config.addinivalue_line("markers", f"{name}: {why}; run with `pytest -m {name}`")


@pytest.hookimpl(optionalhook=True)  # only with pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each file in one process, for its fixtures, and so all notebooks, which share runs."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "notebooks" if nodeid.startswith("notebooks/") else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("-m"):
        return
    for item in items:
        for name in NOT_BY_DEFAULT:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"run with `pytest -m {name}`"))


@pytest.fixture(scope="session")
def files() -> Path:
    """Files as other tools write them; named by B2INST_FILES."""
    root = os.environ.get("B2INST_FILES")
    if not root or not Path(root).is_dir():
        pytest.skip("B2INST_FILES names no folder")
    return Path(root)


@pytest.fixture
def imagenet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that torchvision keeps downloaded weights in, with those of B2INST_IMAGENET."""
    source = os.environ.get("B2INST_IMAGENET")
    if not source or not Path(source).is_dir():
        pytest.skip("B2INST_IMAGENET names no folder")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for file in Path(source).glob("*.pth"):
        (folder / file.name).symlink_to(file.resolve())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return folder


MakeTargets = Callable[..., "Targets"]


@pytest.fixture(scope="session")
def make_targets() -> MakeTargets:
    """A function: size and tight boxes (x1 y1 x2 y2, whole pixels) to targets with full masks."""
    import numpy as np
    import torch

    from b2inst.structures import Targets

    def make(
        size: tuple[int, int],
        boxes: Sequence[tuple[int, int, int, int]],
        labels: Sequence[int] | None = None,
        image_id: int = 0,
    ) -> Targets:
        masks = np.zeros((len(boxes), *size), np.uint8)
        semantic = np.zeros(size, np.uint8)
        names = [0] * len(boxes) if labels is None else list(labels)
        for mask, (x1, y1, x2, y2), label in zip(masks, boxes, names, strict=True):
            mask[y1:y2, x1:x2] = 1
            semantic[mask.astype(bool)] = label + 1
        return Targets(
            image_id=image_id,
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(names, dtype=torch.int64),
            masks=torch.from_numpy(masks),
            semantic=torch.from_numpy(semantic),
        )

    return make
