"""A folder of the reference fixtures' form, whose numbers are our own model's.

It shows what is noticed and what is told; that the numbers are right only the published fixtures
can say.
"""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from b2inst.ops.images import resized_size
from b2inst.ops.masks import encode_rle
from reference.blendmask import Outputs, compute
from reference.blendmask_inputs import Sample, draw, read_samples
from reference.fixtures import Case, read_case

NAME = "blendmask_small_seed3"

#: Two images, the second of which is held by the limit of the longer side.
SIZES = ((50, 75), (80, 44))
SHORTER, LONGER_MAX = 64, 100

#: How published names say that only every few cells are stored.
STEPS = {"input": "input_stride8", "res3": "res3_s4", "p3": "p3_s2", "top_3": "top_3_s6"}

LAYOUT = runpy.run_path(str(Path(__file__).parents[1] / "weights/conftest.py"))["adelaidet"]


def _kind(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    if name.endswith("num_batches_tracked"):
        return {"kind": "zeros_i64"}
    if len(shape) == 4:
        return {"kind": "conv", "center": True}
    if name.endswith(("running_mean", "running_var")):
        return {"kind": name.rsplit(".", 1)[1]}
    if name == "proposal_generator.fcos_head.cls_logits.bias":
        return {"kind": "bias", "mean": -2.0}
    normed = ("norm.", "_tower.1.", "_tower.4.", "_tower.7.", "_tower.10.")
    if any(part in name for part in normed) or ".1." in name or "seg_head.4." in name:
        return {"kind": "norm_" + name.rsplit(".", 1)[1]}
    return {"kind": "bias"}


def _write_inputs(folder: Path) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    images = []
    for i, (height, width) in enumerate(SIZES):
        coarse = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
        original = coarse.repeat(5, 0).repeat(5, 1)[:height, :width]
        size = resized_size(height, width, SHORTER, LONGER_MAX)
        resized = Image.fromarray(original[:, :, ::-1]).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        labels = random.integers(0, 5, 3)
        canvas = np.zeros((height, width), np.uint8)
        polygons, masks, boxes = [], [], []
        for label in labels:
            corner = random.uniform(0, (width - 32, height - 32)).round(2)
            points = corner + random.uniform(4, 28, (7, 2)).round(2)
            canvas[draw([points], height, width) > 0] = label + 1
            scaled = points * (np.array(size[::-1]) / (width, height))
            polygons.append([scaled.ravel().tolist()])
            masks.append(draw([scaled], *size))
            boxes.append([*scaled.min(0), *scaled.max(0)])
        nearest = Image.fromarray(canvas).resize(size[::-1], Image.Resampling.NEAREST)
        arrays |= {
            f"orig_bgr_{i}": original,
            f"resized_bgr_{i}": np.asarray(resized)[:, :, ::-1],
            f"gt_boxes_{i}": np.array(boxes, np.float32),
            f"gt_classes_{i}": labels,
            f"gt_masks_packed_{i}": np.packbits(np.reshape(masks, (3, -1)), axis=1),
            f"gt_masks_shape_{i}": np.array((3, *size)),
            f"basis_sem_{i}": np.asarray(nearest),
        }
        facts = {"image_id": 100 + i, "orig_hw": [height, width], "resized_hw": list(size)}
        images.append(facts | {"n_gt": 3, "polygons_in_resized_xy": polygons})
    np.savez(folder / "blendmask_inputs.npz", **arrays)
    (folder / "blendmask_inputs.json").write_text(json.dumps(images))


def _published(ours: Outputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and facts as the fixtures have them."""
    seen, step = ours.predictions, ours.training
    arrays: dict[str, Any] = {}
    for name, values in ({"input": seen.images} | seen.maps).items():
        stored = STEPS.get(name, name)
        stride = int("".join(c for c in stored.removeprefix(name) if c.isdigit()) or 1)
        arrays[stored] = values[:, :, ::stride, ::stride]
    summary, codes = [], []
    for i, (found, final) in enumerate(zip(seen.detections, seen.instances, strict=True)):
        arrays |= {f"det{i}_{k}": v for k, v in found.items() if k != "roi_bases"}
        arrays[f"det{i}_roi_bases_first8"] = found["roi_bases"][:8]
        arrays |= {f"final{i}_{k}": v for k, v in final.items() if k != "masks"}
        arrays[f"final{i}_mask_area"] = final["masks"].sum((1, 2))
        # Each instance is the detection of its own score.
        index = [found["scores"].tolist().index(score) for score in final["scores"].tolist()]
        arrays[f"final{i}_det_index"] = np.array(index)
        codes.append(encode_rle(torch.from_numpy(final["masks"])))
        summary.append(_summary(i, arrays))
    arrays |= {f"train_{name}": value for name, value in step.targets.items()}
    arrays |= {f"train_bn_running_{k}_refine0": v for k, v in step.statistics.items()}
    levels = arrays["train_level"][arrays["train_pos_inds"]]
    facts = {
        "weights_crc32": ours.weights,
        "attn_size": ours.attention_size,
        "seed": 3,
        "input_shape": list(seen.images.shape),
        "input_sum": float(seen.images.sum(dtype=np.float64)),
        "detections_summary": summary,
        "final_masks_rle": codes,
        "train_losses_bitmask": step.losses,
        "train_losses_polygon": step.polygon_losses,
        "train_total": sum(step.losses.values()),
        "grad_norms": step.gradients,
        "no_grad_params": step.without_gradient,
        "num_pos": len(levels),
        "loss_denorm_sum_ctr": float(arrays["train_pos_ctr"].sum()),
        "pos_per_level": [int((levels == level).sum()) for level in range(5)],
        "pos_per_gt": [int((arrays["train_pos_gt_inds"] == k).sum()) for k in range(6)],
    }
    return arrays, facts


def _summary(i: int, arrays: dict[str, Any]) -> dict[str, Any]:
    scores = arrays[f"det{i}_scores"]
    products = [
        1 / (1 + np.exp(-arrays[f"logits_{k}"][i])) / (1 + np.exp(-arrays[f"ctr_{k}"][i]))
        for k in range(3, 8)
    ]
    near_half = np.abs(arrays[f"det{i}_masks56"] - 0.5) < 1e-4
    return {
        "n_det": len(scores),
        "n_final": len(arrays[f"final{i}_boxes"]),
        "candidates_per_level": [int((p > 0.05).sum()) for p in products],
        "score_max": float(scores[0]),
        "score_min": float(scores[-1]),
        "min_score_gap": float((scores[:-1] - scores[1:]).min()),
        "closest_product_to_0_05": float(min(np.abs(p - 0.05).min() for p in products)),
        "levels": {str(k): int((arrays[f"det{i}_levels"] == k).sum()) for k in range(3, 8)},
        "n_classes": len(set(arrays[f"det{i}_classes"].tolist())),
        "soft_mask_within_1e4_of_half": int(near_half.sum()),
        "empty_final_masks": int((arrays[f"final{i}_mask_area"] == 0).sum()),
    }


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outputs]:
    """The folder, and what the model computed from its weights and inputs."""
    folder = tmp_path_factory.mktemp("fixtures")
    _write_inputs(folder)
    layout = LAYOUT(attention=2, classes=5)
    spec = {name: {"shape": list(shape)} | _kind(name, shape) for name, shape in layout.items()}
    (folder / "blendmask_small_spec.json").write_text(json.dumps(spec))
    np.savez(folder / f"{NAME}.npz")
    (folder / f"{NAME}.json").write_text("{}")
    case = read_case(folder, NAME)
    ours = compute(case, read_samples(case), lambda _: None)
    arrays, facts = _published(ours)
    np.savez(folder / f"{NAME}.npz", **arrays)
    (folder / f"{NAME}.json").write_text(json.dumps(facts))
    return folder, ours


@pytest.fixture(scope="session")
def folder(computed: tuple[Path, Outputs]) -> Path:
    return computed[0]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The folder again, to be damaged."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def case(folder: Path) -> Case:
    return read_case(folder, NAME)


@pytest.fixture
def samples(case: Case) -> list[Sample]:
    return read_samples(case)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The published fixtures, where they are."""
    if "B2INST_REFERENCE" not in os.environ:
        pytest.skip("B2INST_REFERENCE is not set")
    return Path(os.environ["B2INST_REFERENCE"])
