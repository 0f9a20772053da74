from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou
from typer.testing import CliRunner

import b2inst
import b2inst.export
from b2inst import models
from b2inst.cli import app
from b2inst.data import DataError, write_scenes
from b2inst.export import calibration_files, export_model
from b2inst.weights import WeightsError, load_model, save_model
from b2inst.weights.files import model_card
from b2inst.weights.start import start_options

Runtime = Literal["onnx", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnx", "openvino")

#: Heights and widths that no export has seen, among them the least and one that is all padding.
SIZES = ((64, 80), (150, 90), (33, 200), (1, 1))


def needs(runtime: Runtime) -> None:
    for module in {"onnx": ("onnxruntime",), "openvino": ("openvino",)}[runtime]:
        pytest.importorskip(module, reason=f"{module} missing: pip install 'b2inst[{runtime}]'")
    pytest.importorskip("onnxscript", reason=f"onnxscript missing: pip install 'b2inst[{runtime}]'")


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


@pytest.fixture(scope="module", autouse=True)
def graphs() -> Iterator[None]:
    """Trace each model once for a runtime: in int8 it has the weights that it has in float32."""
    traced: dict[tuple[str, int], tuple[bytes, list[str], float | None]] = {}
    write = b2inst.export._write_onnx

    def write_or_copy(network: Any, path: Path, *, opset: int) -> None:
        key = network.model.recipe["name"], opset
        if key not in traced:
            write(network, path, opset=opset)
            traced[key] = path.read_bytes(), network.names, network.stride
        content, network.names, network.stride = traced[key]
        path.write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(b2inst.export, "_write_onnx", write_or_copy)
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Any]]:
    """A function: model and runtime to the PyTorch model and the exported one; made once."""
    made: dict[tuple[str, Runtime], tuple[Path, Path]] = {}

    def make(name: str, runtime: Runtime, **options: Any) -> tuple[Any, Any]:
        needs(runtime)
        if (name, runtime) not in made:
            path = tmp_path_factory.mktemp("exported") / "model.safetensors"
            torch.manual_seed(0)
            model = b2inst.create_model(
                name, num_classes=2, class_names=("star", "gear"), **options
            )
            for module in model.modules():  # statistics that are not those of fresh norms
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 1.5)
            head: Any = getattr(model, "instance_head", None)
            if head is not None:  # scores that differ between positions
                torch.nn.init.normal_(head.class_logits.weight, std=0.2)
            if hasattr(head, "distances"):  # and boxes of some size
                torch.nn.init.normal_(head.distances.weight, std=1e-3)
                torch.nn.init.constant_(head.distances.bias, 2.0)
            save_model(model, path, category_ids=(18, 44))
            made[name, runtime] = path, export_model(path, to=runtime)
        plain, out = made[name, runtime]
        return b2inst.load_model(plain), b2inst.load_model(out)

    return make


def find(model: Any, *, threshold: float, most: int) -> list[b2inst.Result]:
    part = model.detector if hasattr(model, "detector") else model.instance_head
    part.score_threshold, model.max_detections = threshold, most
    if hasattr(part, "nms_iou"):
        part.nms_iou = 1.0  # nothing is suppressed
    return [model.predict([picture])[0] for picture in pictures()]


ORDINARY = [
    ("b2inst-blendmask-tiny", "onnx"),
    ("b2inst-blendmask-tiny", "openvino"),
    ("gated-yolact-tiny", "openvino"),
    ("condinst-tiny", "onnx"),
]
SLOW = [
    (name, runtime)
    for name in (
        "b2inst-yolact-mobilenetv2",
        "b2inst-condinst-mobilenetv2",
        "blendmask-mobilenetv2",
        "b2inst-blendmask-r50",
        "b2inst-yolact-r50",
        "condinst-r50",
        "ms-rcnn-tiny",
        "pointrend-tiny",
        "centermask-tiny",
        "fcispp-tiny",
        "mnc-tiny",
        "masklab-tiny",
        "tensormask-tiny",
        "maskrcnn-r50",
    )
    for runtime in RUNTIMES
]
EVERY = [*ORDINARY, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]


@pytest.mark.parametrize(("name", "runtime"), EVERY)
def test_it_finds_the_same_in_images_of_any_size(
    name: str, runtime: Runtime, exported: Callable[..., tuple[Any, Any]]
) -> None:
    plain, other = exported(name, runtime)
    assert other.class_names == ("star", "gear")
    assert other.category_ids == (18, 44)
    for threshold, most, least in ((1.0, 100, 0), (0.0, 400, 400)):
        expected = find(plain, threshold=threshold, most=most)
        found = find(other, threshold=threshold, most=most)
        if hasattr(plain, "instance_head"):
            assert max(map(len, expected)) >= least
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours) == len(theirs)
            torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-4, rtol=0)
            if not len(theirs):
                continue
            # Scores that are equal but for rounding may change places.
            overlap = box_iou(ours.boxes, theirs.boxes)
            overlap -= (ours.scores[:, None] - theirs.scores).abs()  # of equal boxes
            overlap[ours.labels[:, None] != theirs.labels] = 0
            best, row = overlap.max(1)
            assert best.quantile(0.02) > 0.99
            differing = (ours.masks != theirs.masks[row]).float().mean((1, 2))
            assert differing.quantile(0.98) < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_maps_are_those_of_pytorch(
    runtime: Runtime, exported: Callable[..., tuple[Any, Any]]
) -> None:
    plain, other = exported("b2inst-blendmask-tiny", runtime)
    images = torch.randn(3, 3, 96, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (features, head, bases), (own_features, own_head, own_bases) = (
            model.network(images) for model in (plain, other)
        )
    assert own_bases.stride == bases.stride
    assert set(own_features) == {4}  # what the scoring head reads
    pairs = [(own_features[4], features[4]), (own_bases.maps, bases.maps)]
    pairs += [(own_bases.boundary_logits, bases.boundary_logits)]
    pairs += [(own_head.class_logits, head.class_logits), (own_head.distances, head.distances)]
    pairs += [*zip(own_head.towers, head.towers, strict=True)]
    for own, expected in pairs:
        torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_is_near_and_its_predictors_are_floats(
    runtime: Runtime, exported: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    needs(runtime)
    module = {"onnx": "onnxruntime.quantization", "openvino": "nncf"}[runtime]
    pytest.importorskip(module, reason=f"{module} missing: pip install 'b2inst[{runtime}]'")
    plain, _ = exported("b2inst-blendmask-tiny", runtime)
    weights = tmp_path / "model.safetensors"
    save_model(plain, weights)
    for i, image in enumerate(pictures()[:3]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    path = export_model(weights, to=runtime, calibration=calibration_files(str(tmp_path), most=8))
    assert path.stem == "model-int8"
    other: Any = load_model(path)
    assert other.recipe["exported"]["int8"]
    batch = plain.preprocessor([plain.preprocessor.resized(pictures()[0])]).images
    with torch.inference_mode():
        (_, head, bases), (_, own_head, own_bases) = (m.network(batch) for m in (plain, other))
    for own, expected in ((own_head.class_logits, head.class_logits), (own_bases.maps, bases.maps)):
        pair = torch.stack([own.flatten(), expected.flatten()])
        assert 0.9 < torch.corrcoef(pair)[0, 1] < 0.99999  # eight bits are no floats
    for level in own_head.class_logits, own_bases.maps:  # more values than eight bits have
        assert len(level.unique()) > 256


def test_what_only_predicts_is_neither_trained_nor_saved(
    exported: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    _, other = exported("condinst-tiny", "onnx")
    with pytest.raises(WeightsError, match="exported model has no weights to save"):
        save_model(other, tmp_path / "again.safetensors")
    with pytest.raises(RuntimeError, match="only predicts"):
        other.train()([torch.zeros(3, 96, 96, dtype=torch.uint8)], [])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_endings_may_be_in_upper_case(runtime: Runtime, tmp_path: Path) -> None:
    """As cameras, old disks and some systems write them."""
    needs(runtime)
    path = tmp_path / "model.safetensors"
    save_model(b2inst.create_model("yolact-tiny", num_classes=2), path)
    out = export_model(path, to=runtime)
    upper = out.rename(out.with_suffix(out.suffix.upper()))
    assert model_card(upper)["exported"]["runtime"] == runtime
    assert load_model(upper).recipe["exported"]["runtime"] == runtime
    with pytest.raises(WeightsError, match="exported model cannot be trained"):
        start_options(upper)


def test_files_that_are_none_of_ours_are_told(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx missing: pip install 'b2inst[onnx]'")
    pytest.importorskip("onnxruntime", reason="pip install 'b2inst[onnx]'")
    path = tmp_path / "model.onnx"
    with pytest.raises(WeightsError, match="missing"):
        load_model(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        load_model(path)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [other])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    with pytest.raises(WeightsError, match="no b2inst recipe"):
        load_model(path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_extra_is_named(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"onnx": "onnxruntime", "openvino": "openvino"}[runtime]
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / {"onnx": "model.onnx", "openvino": "model.xml"}[runtime]
    path.touch()
    path.with_suffix(".bin").touch()
    with pytest.raises(WeightsError, match=rf"{module} is not installed.*b2inst\[{runtime}\]"):
        load_model(path)


def test_calibration_images_are_evenly_spaced(tmp_path: Path) -> None:
    for i in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    names = [path.stem for path in calibration_files(str(tmp_path), most=5)]
    assert names == ["0", "2", "4", "6", "8"]
    assert len(calibration_files(str(tmp_path), most=99)) == 10
    write_scenes(tmp_path / "coco", split="val", images=3, size=32, seed=0)
    assert len(calibration_files(f"{tmp_path / 'coco'}:val", most=2)) == 2
    with pytest.raises(DataError, match="no split 'train'"):
        calibration_files(str(tmp_path / "coco"), most=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images to calibrate on"):
        calibration_files(str(tmp_path / "empty"), most=5)


def test_the_command_says_what_goes_together(tmp_path: Path) -> None:
    arguments = ["export", str(tmp_path / "m.safetensors"), "--to", "onnx"]
    result = CliRunner().invoke(app, [*arguments, "--int8"])
    assert result.exit_code == 2
    assert "--calibrate" in result.output
    result = CliRunner().invoke(app, [*arguments, "--out", "model.xml"])
    assert result.exit_code == 1
    assert "ends with .onnx" in result.output


def test_an_option_that_the_command_lacks_is_no_remedy(
    exported: Callable[..., tuple[Any, Any]], tmp_path: Path
) -> None:
    plain, _ = exported("b2inst-blendmask-tiny", "onnx")
    save_model(plain, tmp_path / "m.safetensors")
    write_scenes(tmp_path, split="val", images=3, size=48, seed=1)
    image = tmp_path / "val/000001.png"
    image.write_bytes(image.read_bytes()[:1000])
    arguments = ["export", str(tmp_path / "m.safetensors"), "--to", "onnx"]
    result = CliRunner().invoke(app, [*arguments, "--int8", "--calibrate", str(tmp_path / "val")])
    assert result.exit_code == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {image}: unreadable image")
    assert last.endswith("; replace it")


def test_an_oracle_is_not_exported(tmp_path: Path) -> None:
    needs("onnx")
    path = tmp_path / "m.safetensors"
    save_model(models.create_model("blendmask-tiny", num_classes=1, oracle={}), path)
    with pytest.raises(WeightsError, match="exported already, or needs true masks"):
        export_model(path, to="onnx")
