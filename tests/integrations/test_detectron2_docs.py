"""The code of docs/detectron2.md runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer

from b2inst.data import write_scenes
from b2inst.models import BasisSegmenter
from b2inst.weights import load_model, save_model

DOCS = Path(__file__).parents[2] / "docs" / "detectron2.md"


@pytest.fixture
def catalogs() -> Iterator[None]:
    """Forget what the code registers."""
    yield
    for name in ("mine", "val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.usefixtures("catalogs")
def test_the_code_of_the_docs_runs(
    finder: Callable[..., BasisSegmenter],
    picture: Callable[..., np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(120, 160)).save("photo.jpg")
    save_model(finder("b2inst-blendmask-tiny"), "model.safetensors")
    for split in ("train", "val"):
        write_scenes(tmp_path / "data", split=split, images=3, size=64, seed=1)
    iterations = []

    def short(trainer: Any) -> None:
        iterations.append(trainer.max_iter)
        trainer.max_iter = 2
        super(DefaultTrainer, trainer).train(trainer.start_iter, trainer.max_iter)

    monkeypatch.setattr(DefaultTrainer, "train", short)
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), namespace)
    assert Image.open("found.png").size == (160, 120)
    assert Path("evaluated/coco_instances_results.json").is_file()
    assert iterations == [2000]
    trained = load_model("model.safetensors")
    assert trained.recipe["num_classes"] == 8
