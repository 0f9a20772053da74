"""Every model trains and predicts on a CUDA device, as far as can be told without one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.precision import Precision
from pretended_cuda import CUDA, Forgetful, PretendedCuda, mapped
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from b2inst.benchmark import Sample
from b2inst.benchmark.stages import DummyDetections, TimedModel
from b2inst.data import CocoDataset, CocoIndex, train_transforms, write_scenes
from b2inst.evaluation import write_predictions
from b2inst.evaluation.predictions import read_predictions, to_records
from b2inst.models import BasisSegmenter, Segmenter, create_model, with_bases
from b2inst.structures import Instances, Targets
from b2inst.training import Schedule, loop
from b2inst.training.checkpoints import save_checkpoint
from b2inst.viz.draw import draw_heat, draw_instances

_R18 = {"backbone": "resnet18", "shorter": 64, "longer_max": 96}

#: Families, and the parts that a model can be put together from.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "blendmask": ("blendmask-tiny", {}),
    "b2inst-blendmask": ("b2inst-blendmask-tiny", {}),
    "gated-blendmask": ("gated-convs-blendmask-tiny", {}),
    "mobilenet-blendmask": ("b2inst-blendmask-mobilenetv2", {"shorter": 64, "longer_max": 96}),
    "resnet-blendmask": ("b2inst-blendmask-r50", _R18 | {"frozen_norm": True}),
    "local": ("blendmask-tiny", {"boundary": {"local": True, "as_basis": False}}),
    "fused": ("blendmask-tiny", {"boundary": {"fused": True}}),
    "shared": ("blendmask-tiny", {"boundary": {"branch_channels": 0, "two_sided": True}}),
    "oracle": ("blendmask-tiny", {"oracle": {"as_basis": True}, "scoring": ("iou",)}),
    "yolact": ("yolact-tiny", {}),
    "b2inst-yolact": ("b2inst-yolact-tiny", {}),
    "gated-yolact": ("gated-yolact-tiny", {}),
    "mobilenet-yolact": ("b2inst-yolact-mobilenetv2", {"size": 96}),
    "resnet-yolact": ("b2inst-yolact-r50", {"backbone": "resnet18", "size": 96}),
    "condinst": ("condinst-tiny", {}),
    "b2inst-condinst": ("b2inst-condinst-tiny", {"best_per_image": 4}),
    "gated-condinst": ("gated-condinst-tiny", {}),
    "mobilenet-condinst": ("b2inst-condinst-mobilenetv2", {"shorter": 64, "longer_max": 96}),
    "resnet-condinst": ("b2inst-condinst-r50", _R18 | {"semantic": True}),
    "mask-rcnn": ("maskrcnn-tiny", {}),
    "ms-rcnn": ("ms-rcnn-tiny", {}),
    "bmask-rcnn": ("bmask-rcnn-tiny", {}),
    "pointrend": ("pointrend-tiny", {}),
    "centermask": ("centermask-tiny", {}),
    "fcispp": ("fcispp-tiny", {}),
    "mnc": ("mnc-tiny", {}),
    "masklab": ("masklab-tiny", {}),
    "tensormask": ("tensormask-tiny", {}),
    "untiled": ("b2inst-blendmask-tiny", {"shorter": None, "longer_max": None}),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CocoIndex:
    root = tmp_path_factory.mktemp("scenes")
    return CocoIndex.load(write_scenes(root, split="val", images=3, size=64, seed=3), root / "val")


def build(case: str) -> Segmenter:
    name, options = MODELS[case]
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, max_detections=12, **options)
    model.optimised = False  # differs by roundings, and from device to device
    head = model._detector
    head.score_threshold = 0.0  # type: ignore[attr-defined]  # fresh weights find nothing else
    return model


def example(make_targets: Callable[..., Targets]) -> tuple[list[Tensor], list[Targets]]:
    """Two images for training, the second without objects."""
    images = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.manual_seed(1)).byte()
    boxes = [(4, 8, 40, 50), (30, 20, 90, 80), (60, 60, 72, 70)]
    return list(images), [
        make_targets((96, 96), boxes, labels=[0, 1, 2]),
        make_targets((96, 96), [], image_id=1),
    ]


def train_step(model: Segmenter, make_targets: Callable[..., Targets]) -> dict[str, float]:
    """One iteration, as the training loop does it."""
    device = next(model.parameters()).device
    images, targets = example(make_targets)
    optimizer, scheduler = Schedule(learning_rate=1e-3, iterations=2).optimizer_for(model.train())
    torch.manual_seed(2)
    losses = model(images, [target.to(device) for target in targets])
    assert {loss.device for loss in losses.values()} == {device}
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    return {name: loss.item() for name, loss in losses.items()}


def predict(model: Segmenter) -> list[Instances]:
    """Two images, the second of another size, into records as evaluation writes them."""
    device = next(model.parameters()).device
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((48, 64), (80, 60))]
    found: Sequence[Instances]
    if isinstance(model, BasisSegmenter) and model.oracle is not None:
        truths = [torch.ones(1, *image.shape[:2], dtype=torch.uint8) for image in images]
        found = model.eval().predict_with_truth(images, truths)
    else:
        found = model.eval().predict(images)
    for instances in found:
        values = [value for value in vars(instances).values() if isinstance(value, Tensor)]
        assert {value.device for value in values} == {device}
        to_records(1, instances, [1, 2, 3])
    return found


def exercise(
    model: Segmenter,
    make_targets: Callable[..., Targets],
    within: AbstractContextManager[Any] | None = None,
) -> None:
    """Predict, which takes less time, and train on the pretended device."""
    with PretendedCuda():
        model.to("cuda")
        with within or nullcontext():
            predict(model)
            train_step(model, make_targets)


@pytest.mark.parametrize("case", MODELS)
def test_a_model_trains_as_on_the_cpu(case: str, make_targets: Callable[..., Targets]) -> None:
    model = build(case)
    expected = train_step(copy.deepcopy(model), make_targets)
    with PretendedCuda():
        moved = model.to("cuda")
        assert train_step(moved, make_targets) == pytest.approx(expected)
        assert {p.grad.device for p in moved.parameters() if p.grad is not None} == {CUDA}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_predicts_as_on_the_cpu(case: str) -> None:
    model = build(case)
    expected = predict(model)
    assert any(len(instances) for instances in expected)
    with PretendedCuda():
        moved = model.to("cuda")
        for found, known in zip(predict(moved), expected, strict=True):
            torch.testing.assert_close(found.to("cpu").scores, known.scores)
            assert torch.equal(found.masks.cpu(), known.masks)
        moved.optimised = True
        predict(moved)
        moved._detector.score_threshold = 2.0  # type: ignore[attr-defined]
        assert not any(map(len, predict(moved)))


def test_a_large_image_is_predicted_in_tiles() -> None:
    model = build("untiled")
    image = np.random.default_rng(0).integers(0, 256, (64, 320, 3), np.uint8)
    model.eval().tile = 192
    (expected,) = model.predict([image])
    with PretendedCuda():
        (found,) = model.to("cuda").predict([image])
        assert found.masks.device == CUDA
        assert len(found)
        assert torch.equal(found.masks.cpu(), expected.masks)


def test_a_prediction_is_explained_drawn_and_written(index: CocoIndex, tmp_path: Path) -> None:
    files = [tmp_path / "cpu.json.gz", tmp_path / "cuda.json.gz"]
    model = build("b2inst-blendmask").eval()
    write_predictions(model, index, files[0], progress=False)
    with PretendedCuda():
        model.to("cuda")
        write_predictions(model, index, files[1], progress=False)
        image = np.zeros((48, 64, 3), np.uint8)
        model.optimised = True
        shown = with_bases(model).explain(image)
        assert shown.boundary is not None
        assert shown.boundary.device == CUDA
        assert draw_heat(shown.boundary, (48, 64)).shape == image.shape
        draw_instances(image, shown.instances)
    for one, other in zip(*map(read_predictions, files), strict=True):
        assert one.pop("segmentation") == other.pop("segmentation")
        torch.testing.assert_close(one, other)  # its RoIAlign rounds otherwise


def test_a_model_is_timed() -> None:
    sample = Sample(np.zeros((48, 64, 3), np.uint8), np.array([[8, 8, 40, 40]], np.float32))
    with PretendedCuda():
        model = build("b2inst-blendmask").eval().to("cuda")
        timed = TimedModel(model, clock=lambda: 0.0, dummies=DummyDetections(model, 7))
        timing = timed.predict(sample)
    assert timing.detections == 7


class PretendedFabric:
    """Of Lightning Fabric what the training loop asks, for one process on the pretended device."""

    device, world_size, global_rank, is_global_zero = CUDA, 1, 0, True
    strategy = SimpleNamespace(precision=Precision())

    def seed_everything(self, seed: int, **_: Any) -> None:
        torch.manual_seed(seed)

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        old = list(model.parameters())
        new = dict(zip(old, model.to("cuda").parameters(), strict=True))
        for group in optimizer.param_groups:
            group["params"] = [new[parameter] for parameter in group["params"]]
        return model, optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, model: nn.Module, _: Any, *, max_norm: float) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    def barrier(self) -> None: ...


def test_a_training_is_interrupted_and_goes_on(
    index: CocoIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "launch", lambda **_: PretendedFabric())
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16).byte())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    data = CocoDataset(index, train_transforms(shorter=[64], longer_max=64, flip=0.5))
    schedule = Schedule(learning_rate=1e-3, iterations=3, batch_size=2, checkpoint_every=1)

    def go_on(folder: str) -> None:
        model = build("b2inst-blendmask")
        loop.train(model, data, schedule=schedule, seed=0, out=tmp_path / folder, progress=False)

    def interrupted(*given: Any) -> None:
        save_checkpoint(*given)
        raise KeyboardInterrupt

    with PretendedCuda():
        go_on("at once")
        with monkeypatch.context() as context:
            context.setattr(loop, "save_checkpoint", interrupted)
            with pytest.raises(KeyboardInterrupt):
                go_on("again")
        go_on("again")
    files = [tmp_path / folder / "model.safetensors" for folder in ("at once", "again")]
    assert len({file.read_bytes() for file in files}) == 1


#: Files that say on which device something is to be, and a model that needs each.
PARTS = {
    "models/basis_segmenter.py": "b2inst-blendmask",
    "models/segmenter.py": "blendmask",
    "modules/dynamic_mask_head.py": "condinst",
    "modules/fcos_head.py": "blendmask",
    "modules/fcos_targets.py": "blendmask",
    "modules/linear_assembler.py": "yolact",
    "modules/mask_heads.py": "ms-rcnn",
    "modules/boundary_basis.py": "oracle",
    "modules/layers.py": "blendmask",
    "modules/preprocessor.py": "blendmask",
    "modules/center_mask.py": "centermask",
    "modules/mask_voting.py": "mnc",
    "modules/masklab.py": "masklab",
    "modules/point_rend.py": "pointrend",
    "modules/prior_box_head.py": "yolact",
    "modules/prior_targets.py": "yolact",
    "modules/scoring_head.py": "b2inst-blendmask",
    "modules/tensor_mask.py": "tensormask",
    "ops/align2nat.py": "tensormask",
    "ops/boundary.py": "b2inst-blendmask",
    "ops/fast_nms.py": "yolact",
    "ops/frame_masks.py": "yolact",
    "ops/masks.py": "blendmask",
    "ops/roi_align.py": "mnc",
    "ops/quality.py": "b2inst-blendmask",
    "structures.py": "yolact",
}


@pytest.fixture(scope="module")
def noted() -> dict[str, set[tuple[str, int]]]:
    """Where the package says on which device something is to be, for each model."""
    return {}


@pytest.mark.parametrize(("file", "case"), PARTS.items())
def test_a_device_that_is_forgotten_is_an_error(
    file: str,
    case: str,
    make_targets: Callable[..., Targets],
    noted: dict[str, set[tuple[str, int]]],
) -> None:
    if case not in noted:
        forgetful = Forgetful()
        exercise(build(case), make_targets, forgetful)
        noted[case] = forgetful.places
    places = [place for place in noted[case] if place[0].endswith(f"b2inst/{file}")]
    assert any(_found(Forgetful(place), case, make_targets) for place in sorted(places))


def _found(forgetful: Forgetful, case: str, make_targets: Callable[..., Targets]) -> bool:
    try:
        exercise(build(case), make_targets, forgetful)
    except (RuntimeError, AssertionError) as error:
        return "device" in str(error)
    return False


@pytest.mark.parametrize(
    ("case", "part", "method"),
    [
        ("blendmask", "preprocessor", "forward"),
        ("blendmask", "backbone", "forward"),
        ("blendmask", "instance_head", "forward"),
        ("blendmask", "instance_head", "loss"),
        ("blendmask", "instance_head", "detect"),
        ("blendmask", "assembler", "assemble"),
        ("blendmask", "assembler", "loss"),
        ("b2inst-blendmask", "basis_head", "forward"),
        ("b2inst-blendmask", "basis_head", "loss"),
        ("b2inst-blendmask", "basis_head.criterion", "forward"),
        ("b2inst-blendmask", "scoring_head", "forward"),
        ("b2inst-blendmask", "scoring_head", "loss"),
        ("gated-blendmask", "assembler.refinement", "forward"),
        ("oracle", "oracle", "forward"),
        ("yolact", "instance_head", "detect"),
        ("yolact", "assembler", "assemble"),
        ("yolact", "assembler", "loss"),
        ("condinst", "assembler", "assemble"),
        ("condinst", "assembler", "loss"),
        ("mask-rcnn", "detector", "loss"),
        ("mask-rcnn", "detector", "detect"),
        ("mask-rcnn", "mask_head", "forward"),
        ("bmask-rcnn", "mask_head", "loss"),
        ("pointrend", "mask_head", "point_logits"),
        ("pointrend", "mask_head", "loss"),
        ("centermask", "detector", "loss"),
        ("centermask", "detector", "detect"),
        ("centermask", "mask_head", "forward"),
        ("fcispp", "detector", "regions"),
        ("mnc", "detector", "loss"),
        ("mnc", "detector", "detect"),
        ("masklab", "mask_head", "forward"),
        ("masklab", "mask_head", "loss"),
        ("tensormask", "detector", "loss"),
        ("tensormask", "detector", "detect"),
        ("tensormask", "mask_head", "forward"),
        ("ms-rcnn", "scoring_head", "forward"),
        ("ms-rcnn", "scoring_head", "loss"),
    ],
)
def test_a_part_that_answers_from_the_cpu_is_an_error(
    case: str,
    part: str,
    method: str,
    make_targets: Callable[..., Targets],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build(case)
    owner = model.get_submodule(part)
    right = getattr(owner, method)

    def wrong(*given: Any, **named: Any) -> Any:
        answer = right(*given, **named)
        return mapped(lambda v: v.cpu() if isinstance(v, Tensor) else v, answer)

    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises((RuntimeError, AssertionError), match="device"):
        exercise(model, make_targets)


def test_what_a_gpu_would_refuse_is_refused() -> None:
    with PretendedCuda():
        there, here = torch.arange(3.0, device="cuda"), torch.arange(3.0)
        for mix in (
            lambda: there + here,
            lambda: here * there.sum(),
            lambda: torch.cat([there, here]),
            lambda: torch.stack([there.sum(), here.sum()]),
            lambda: there.gather(0, here.long()),
            lambda: here[there.long()],
            lambda: here.mul_(there),
            lambda: there.index_put_((here.long(),), here),
            lambda: nms(there.new_zeros(3, 4), here, 0.5),
            lambda: roi_align(there.view(1, 1, 1, 3), [torch.zeros(1, 4)], 2),
        ):
            with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
                mix()
        for view in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
                view()


def test_what_a_gpu_allows_is_allowed() -> None:
    with PretendedCuda():
        there, here = torch.tensor([1.0, 2.0, 3.0], device="cuda"), torch.tensor([0, 2])
        assert (there * here.sum()).tolist() == [2, 4, 6]
        assert there[here].device == there.new_tensor([0]).device == here.to(there).device == CUDA
        there[here] = torch.tensor(5.0)
        there[:2].copy_(torch.ones(2))
        assert there.cpu().tolist() == [1, 1, 5]
        assert there[[2, 0]].tolist() == [5, 1]
        assert torch.zeros(3).copy_(there).device.type == "cpu"
