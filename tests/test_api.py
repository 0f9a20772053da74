from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import b2inst
from b2inst import models
from b2inst.models.building import Family

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)


def tiny(name: str = "b2inst-blendmask-tiny") -> b2inst.Segmenter:
    torch.manual_seed(0)
    return b2inst.create_model(name, num_classes=2, class_names=("star", "gear"))


@pytest.mark.parametrize("name", ["b2inst-blendmask-tiny", "yolact-tiny", "maskrcnn-tiny"])
def test_a_new_model_predicts_at_once(name: str) -> None:
    assert isinstance(tiny(name).predict([PICTURE])[0], b2inst.Result)


def test_results_know_the_image_as_it_was_read(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    model = tiny().eval()
    of_array, of_path = model.predict([PICTURE, tmp_path / "a.png"])
    assert of_array.image is PICTURE
    np.testing.assert_array_equal(of_path.image, PICTURE)
    assert isinstance(model.explain(PICTURE).instances, b2inst.Result)


def test_a_single_image_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    model = tiny()
    tensor = torch.from_numpy(PICTURE).permute(2, 0, 1)
    for image in (PICTURE, Image.fromarray(PICTURE), path, str(path), tensor):
        (result,) = model.predict(image)
        np.testing.assert_array_equal(result.image, PICTURE)
    assert len(model.predict(np.stack([PICTURE, PICTURE]))) == 2
    assert len(model.predict(torch.stack([tensor, tensor]))) == 2


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 8, 8), torch.zeros(8, 8, 3, dtype=torch.uint8), PICTURE[..., 0]]
)
def test_other_tensors_and_arrays_are_refused_with_the_right_form(image: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 in RGB order"):
        tiny().predict(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes 0: give a whole number, 1 or more"),
        ({"num_classes": 2, "basis": 4}, "has no option basis; it has max_detections, .*num_bases"),
        ({"num_classes": 2, "boundary": {"wide": 1}}, "options of b2inst-blendmask-tiny: .*wide"),
        ({"num_classes": 2, "class_names": ("a",)}, "class_names has length 1, num_classes is 2"),
    ],
)
def test_wrong_options_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        b2inst.create_model("b2inst-blendmask-tiny", **arguments)


def test_an_error_inside_a_model_is_not_taken_for_a_wrong_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Family):
        def build(self, num_classes: int) -> b2inst.Segmenter:
            raise TypeError("unsupported operand")

    monkeypatch.setitem(models.catalog.CATALOG, "broken", Broken())
    with pytest.raises(TypeError, match="unsupported operand"):
        b2inst.create_model("broken", num_classes=1)


def test_weights_bring_their_category_ids(tmp_path: Path) -> None:
    b2inst.save_model(tiny(), tmp_path / "m.safetensors", category_ids=(18, 44))
    model = b2inst.load_model(tmp_path / "m.safetensors")
    (result,) = model.predict([PICTURE])
    assert result.category_ids == (18, 44)
    assert {record["category_id"] for record in result.to_coco()} <= {18, 44}


def test_copies_show_themselves_too() -> None:
    model = tiny().eval()
    assert isinstance(copy.deepcopy(model).predict([PICTURE])[0], b2inst.Result)


def test_models_are_loaded_in_the_precision_asked_for(tmp_path: Path) -> None:
    b2inst.save_model(tiny(), tmp_path / "m.safetensors")
    assert b2inst.load_model(tmp_path / "m.safetensors").precision == "float32"
    model = b2inst.load_model(tmp_path / "m.safetensors", precision="bfloat16")
    assert model.precision == "bfloat16"
    (result,) = model.predict([PICTURE])
    assert result.boxes.dtype == result.scores.dtype == torch.float32
    with pytest.raises(ValueError, match="precision 'half': choose auto, float32 or bfloat16"):
        b2inst.load_model(tmp_path / "m.safetensors", precision="half")


def test_an_oracle_is_no_model_to_predict_with() -> None:
    model = b2inst.create_model("blendmask-tiny", num_classes=2, oracle={"as_basis": True})
    with pytest.raises(ValueError, match="shown the true boundaries"):
        model.predict(PICTURE)
