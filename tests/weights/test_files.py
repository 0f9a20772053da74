from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from b2inst.models import BasisSegmenter, create_model
from b2inst.weights import WeightsError, load_model, save_model
from b2inst.weights.files import model_card

NAMES = ("star", "gear", "leaf")


@pytest.fixture(scope="module")
def model() -> BasisSegmenter:
    torch.manual_seed(0)
    model = create_model(
        "b2inst-blendmask-tiny",
        num_classes=3,
        class_names=NAMES,
        scoring=("iou",),
        boundary={"branch_channels": 8},
    )
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def saved(model: BasisSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_model(model, path, category_ids=(1, 5, 9))
    return path


def test_there_and_back(model: BasisSegmenter, saved: Path) -> None:
    again = load_model(saved)
    assert not again.training
    assert again.class_names == NAMES
    assert json.dumps(again.recipe) == json.dumps(model.recipe)
    assert list(again.state_dict()) == list(model.state_dict())
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    one, other = model.predict([image])[0], again.predict([image])[0]
    assert one.scores.equal(other.scores)
    assert one.masks.equal(other.masks)


def test_card(saved: Path) -> None:
    card = model_card(saved)
    assert card["name"] == "b2inst-blendmask-tiny"
    assert card["class_names"] == list(NAMES)
    assert card["category_ids"] == [1, 5, 9]


def test_loading_and_saving_keeps_the_categories(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.safetensors"
    save_model(load_model(saved), path)
    assert model_card(path) == model_card(saved)
    save_model(load_model(saved), path, category_ids=np.array([7, 8, 9]))  # type: ignore[arg-type]
    assert load_model(path).category_ids == (7, 8, 9)


@pytest.mark.parametrize("header", ["{", "[]", '{"name": "blendmask-tiny"}'])
def test_a_damaged_header_is_told(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata={"b2inst": header})
    for read in (load_model, model_card):
        with pytest.raises(WeightsError, match="its b2inst recipe is damaged"):
            read(path)


def test_without_class_names(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(create_model("blendmask-tiny", num_classes=2), path)
    assert load_model(str(path)).class_names is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device gpu: choose auto, cpu or cuda"),
        (
            {"device": "cuda"},
            "device cuda: PyTorch finds no GPU here; choose auto or cpu, or check",
        ),
        ({"device": torch.device("cuda", 0)}, "device cuda:0: PyTorch finds no GPU here"),
        ({"tile": 0}, "tile 0: give 160 pixels or more"),
        ({"tile": 10}, "tile 10: give 160 pixels or more"),
    ],
)
def test_what_a_model_cannot_be_loaded_for(
    saved: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        load_model(saved, **options)
    assert load_model(saved, device="auto").preprocessor.mean.device.type == "cpu"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: no such weights file"):
        load_model(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated_file(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cut\.safetensors: not a readable safetensors file"):
        load_model(path)


def test_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3), "bias": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors: .* recipe, only 2 tensors; give"):
        load_model(path)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt"])
def test_a_checkpoint_is_told_from_a_damaged_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state = {"a": torch.zeros(3), "b": torch.zeros(2, 2)}
    torch.save({"model": state, "iteration": 7}, path)
    for read in (load_model, model_card):
        with pytest.raises(WeightsError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: a checkpoint of 2 tensors; ")
        assert f"b2inst convert {path} NEW.safetensors --from adelaidet|" in str(error.value)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"not a readable safetensors file .*b2inst train or"):
        load_model(path)


def test_a_web_page_in_place_of_weights_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("<html><body>Not found</body></html>")
    with pytest.raises(WeightsError, match=r"m\.safetensors: an HTML page, not weights; download"):
        load_model(path)


def recipe(path: Path, **changes: object) -> None:
    card = {"name": "blendmask-tiny", "num_classes": 2, "options": {}}
    card |= {"class_names": None, "category_ids": []} | changes
    save_file({"weight": torch.zeros(3)}, path, metadata={"b2inst": json.dumps(card)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "mask-r-cnn"}, "unknown model 'mask-r-cnn'"),
        ({"options": {"radius": 3}}, "radius"),
        ({"class_names": ["one"]}, "class_names has length 1, num_classes is 2"),
        ({}, r"Missing key.*backbone\.stem"),
    ],
)
def test_recipe_of_another_version(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "future.safetensors"
    recipe(path, **changes)
    with pytest.raises(WeightsError, match=rf"future\.safetensors: .*{message}"):
        load_model(path)


def test_no_space_leaves_the_earlier_file(
    model: BasisSegmenter, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(saved, path)

    def fail(partial: Path, content: bytes) -> None:
        partial.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(WeightsError, match=r"model\.safetensors: .*No space left.*free disk space"):
        save_model(model, path)
    assert path.read_bytes() == saved.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_others_may_read_a_file_as_any_other(model: BasisSegmenter, tmp_path: Path) -> None:
    path, other = tmp_path / "model.safetensors", tmp_path / "other"
    other.touch()
    save_model(model, path)
    assert path.stat().st_mode == other.stat().st_mode


def test_a_folder_that_is_not_there(model: BasisSegmenter, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="could not be written"):
        save_model(model, tmp_path / "nowhere" / "model.safetensors")
