"""What "boundary" may mean as a target: the paper's, two published ones, and morphological bands.

    .venv/bin/python experiments/boundary_targets.py [--data COCO_FOLDER]

Draws each on the masks of the tiny profile's test scenes, and of a COCO-format folder where one is
given, at grids of stride 1 to 8. Writes ``results/tiny/boundary_targets.json`` and ``.png``;
docs/decisions.md says what follows. Targets, each the union over the instances of an image:

* Laplacian > 0: ours (paper §4.1), masks sampled at the grid's cell centres, then filtered.
* BMask R-CNN: the published code's order. Filtered at full resolution, beyond the frame is
  background, clamped, above 0.1; resized by the nearest pixel.
* STDC-Seg: its detail pyramid. The same filter at strides 1, 2 and 4, each brought back by the
  nearest pixel, summed with weights 6/10, 3/10 and 1/10, above 0.1; pooled.
* erosion, pooled: the mask without its erosion by 3×3; a cell counts if a pixel in it does.
* boundary AP: the band it compares, 2 % of the image's diagonal wide, at cell centres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import typer
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage
from tqdm import tqdm

from b2inst.data import CocoDataset, CocoIndex, find_split, train_transforms
from b2inst.evaluation.ground_truth import boundary_width
from b2inst.experiments import Workspace, load_profile
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.ops.boundary import boundary_target, laplacian_boundary
from b2inst.ops.masks import crop_masks
from b2inst.viz.draw import PALETTE
from b2inst.viz.figure import ROW_COLOURS, new_figure, save_figure

STRIDES = (1, 2, 4, 8)
LAPLACIAN = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
SQUARE = np.ones((3, 3), np.uint8)
FATES = ("separated", "merged", "lost")
LINES = ("-", "--")  # scenes, photographs

Maps = dict[int, np.ndarray]  # by stride, h×w bool
Pair = tuple[int, int]


def ours(masks: np.ndarray) -> Maps:
    """b2inst.ops.boundary, as training uses it."""
    height, width = masks.shape[1:]
    return {
        s: boundary_target(
            torch.from_numpy(masks), stride=s, size=(height // s, width // s)
        ).numpy()
        > 0
        for s in STRIDES
    }


def by_scipy(masks: np.ndarray) -> Maps:
    """The same target, written again."""
    sampled = {s: masks[:, s // 2 :: s, s // 2 :: s].astype(np.int32) for s in STRIDES}
    return {
        s: (ndimage.convolve(m, LAPLACIAN[None], mode="nearest") > 0).any(0)
        for s, m in sampled.items()
    }


def bmask(masks: np.ndarray) -> Maps:
    """BMask R-CNN's order of operations, carried from its RoIs to the image."""
    full = _filtered(masks).any(0)
    return {s: full[::s, ::s] for s in STRIDES}


def stdc(masks: np.ndarray) -> Maps:
    """The detail pyramid of STDC-Seg, for each instance instead of a map of classes."""
    full = _filtered(masks)
    levels = [full[:, ::s, ::s].repeat(s, 1).repeat(s, 2) for s in (1, 2, 4)]
    weights = np.array([0.6, 0.3, 0.1], np.float32)
    fused = sum(w * level for w, level in zip(weights, levels, strict=True))
    return _pooled((fused > np.float32(0.1)).any(0))


def erosion(masks: np.ndarray) -> Maps:
    """Any pixel of the inner boundary in a cell."""
    return _pooled(inner_boundaries(masks).any(0))


def band(masks: np.ndarray) -> Maps:
    """The band of boundary AP (Cheng et al. 2021), sampled as ours is."""
    width = boundary_width(*masks.shape[1:])
    # Outside the frame is background there: erode with a border of zeros.
    eroded = [cv2.erode(m, SQUARE, iterations=width, borderValue=0) for m in masks]
    full = (masks.astype(bool) & ~np.stack(eroded).astype(bool)).any(0)
    return {s: full[s // 2 :: s, s // 2 :: s] for s in STRIDES}


TARGETS: dict[str, Callable[[np.ndarray], Maps]] = {
    "Laplacian > 0": ours,
    "BMask R-CNN": bmask,
    "STDC-Seg": stdc,
    "erosion, pooled": erosion,
    "boundary AP": band,
}


def inner_boundaries(masks: np.ndarray) -> np.ndarray:
    """N×H×W bool: what is taken for the true boundary, each instance's own outermost pixels."""
    eroded = [ndimage.binary_erosion(m, SQUARE, border_value=1) for m in masks]
    return masks.astype(bool) & ~np.stack(eroded)


def touching(masks: np.ndarray) -> list[Pair]:
    """Pairs of instances with a pixel of one in or beside the other."""
    grown = np.stack([cv2.dilate(m, SQUARE) for m in masks])
    return [(i, j) for i, j in combinations(range(len(masks)), 2) if (grown[i] & masks[j]).any()]


def fate(first: np.ndarray, second: np.ndarray, boundary: np.ndarray) -> str:
    """What a target leaves of two touching instances, given on its grid.

    "lost" if one has no cell of its own inside its boundary, "merged" if one can walk from there
    to such a cell of the other, over cells of the two, without crossing the boundary, else
    "separated".
    """
    free = (first | second) & ~boundary
    own = free & first & ~second, free & second & ~first  # annotations of photographs overlap
    if not all(cells.any() for cells in own):
        return "lost"
    regions, _ = ndimage.label(free)
    return "merged" if np.intersect1d(regions[own[0]], regions[own[1]]).size else "separated"


def audit(images: Iterator[np.ndarray]) -> dict[str, Any]:
    """Compare the targets over the masks (N×H×W uint8) of images."""
    facts = {"images": 0, "instances": 0, "touching pairs": 0, "RoIs unlike BMask R-CNN's": 0}
    same = dict.fromkeys(STRIDES, True)
    counts = []
    for masks in images:
        pairs, edge = touching(masks), inner_boundaries(masks).any(0)
        facts["images"] += 1
        facts["instances"] += len(masks)
        facts["touching pairs"] += len(pairs)
        facts["RoIs unlike BMask R-CNN's"] += _roi_differences(masks)
        maps = {name: target(masks) for name, target in TARGETS.items()}
        mine = maps["Laplacian > 0"]
        for s, independent in by_scipy(masks).items():
            same[s] &= bool((mine[s] == independent).all())
        for name, s in product(TARGETS, STRIDES):
            counts.append(
                {"target": name, "stride": s} | _count(maps[name][s], mine[s], masks, edge, pairs)
            )
    sums = pd.DataFrame(counts).groupby(["target", "stride"], sort=False).sum()
    stride = sums.index.get_level_values("stride")
    measures = pd.DataFrame(
        {
            "Dice with ours": 2 * sums["both"] / (sums["marked"] + sums["ours"]),
            "share of the grid": sums["marked"] / sums["cells"],
            "width in pixels": sums["marked"] * stride**2 / sums["length"],
            "boundary kept": sums["kept"] / sums["length"],
            **{f"pairs {what}": sums[what] / max(facts["touching pairs"], 1) for what in FATES},
        }
    )
    rows = measures.round(4).reset_index().to_dict("records")
    return {**facts, "equal to SciPy at every cell": same, "rows": rows}


def _count(
    marked: np.ndarray, mine: np.ndarray, masks: np.ndarray, edge: np.ndarray, pairs: list[Pair]
) -> dict[str, int]:
    """Of one image and one target: marked cells, and what they keep of the true boundary."""
    s = masks.shape[1] // marked.shape[0]
    # On a straight edge, sampling at centres is off by at most half a cell.
    near = marked.repeat(s, 0).repeat(s, 1).astype(np.uint8)
    near = cv2.dilate(near, np.ones((2 * (s // 2) + 1,) * 2, np.uint8)) > 0
    sampled = masks[:, s // 2 :: s, s // 2 :: s].astype(bool)
    fates = [fate(sampled[i], sampled[j], marked) for i, j in pairs]
    return {
        "cells": marked.size,
        "marked": int(marked.sum()),
        "ours": int(mine.sum()),
        "both": int((marked & mine).sum()),
        "length": int(edge.sum()),
        "kept": int((edge & near).sum()),
        **{what: fates.count(what) for what in FATES},
    }


def _filtered(masks: np.ndarray) -> np.ndarray:
    return ndimage.convolve(masks.astype(np.int32), LAPLACIAN[None], mode="constant").clip(0) > 0.1


def _pooled(full: np.ndarray) -> Maps:
    height, width = full.shape
    return {s: full.reshape(height // s, s, width // s, s).any((1, 3)) for s in STRIDES}


def _roi_differences(masks: np.ndarray) -> int:
    """In how many boxes Eq. 1's boundary differs from BMask R-CNN's, at its 28×28."""
    boxes = [cv2.boundingRect(m) for m in masks]
    corners = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=torch.float32)
    crops = crop_masks(torch.from_numpy(masks), corners, 28)
    kernel = torch.from_numpy(LAPLACIAN).float()[None, None]
    theirs = F.conv2d(crops[:, None], kernel, padding=1)[:, 0].clamp(min=0) > 0.1
    return int((theirs != laplacian_boundary(crops, frame="constant")).any((1, 2)).sum())


def network_masks(index: CocoIndex, shorter: int, longer_max: int) -> Iterator[np.ndarray]:
    """Masks of each annotated image at the network's size, cut to whole cells of stride 8."""
    dataset = CocoDataset(
        index.annotated(), train_transforms(shorter=shorter, longer_max=longer_max, flip=0)
    )
    for i in tqdm(range(len(dataset)), unit="image"):
        masks = dataset[i][1].masks.numpy()
        height, width = (n // 8 * 8 for n in masks.shape[1:])
        masks = np.ascontiguousarray(masks[:, :height, :width])
        yield masks[masks.any((1, 2))]


def figure(masks: np.ndarray, results: dict[str, Any]) -> Figure:
    """The targets on one scene, and what they measure over all."""
    whole = new_figure(9.6, 9.4)
    top, bottom = whole.subfigures(2, 1, height_ratios=(6.6, 2.8))
    maps = {name: target(masks) for name, target in TARGETS.items()}
    axes = top.subplots(len(STRIDES), 1 + len(TARGETS))
    tints = ["#ffffff"] + [
        tuple(0.45 + 0.55 * c / 255 for c in PALETTE[i % len(PALETTE)]) for i in range(len(masks))
    ]
    colours = ListedColormap([*tints, "#111111"])
    for line, s in zip(axes, STRIDES, strict=True):
        owner = np.zeros(masks.shape[1:], int)
        for i, mask in enumerate(masks):
            owner[mask > 0] = i + 1
        owner = owner[s // 2 :: s, s // 2 :: s]
        line[0].set_ylabel(f"stride {s}", fontsize=9)
        for axis, marked in zip(line, [None, *(found[s] for found in maps.values())], strict=True):
            shown = owner if marked is None else np.where(marked, len(masks) + 1, owner)
            axis.imshow(shown, cmap=colours, vmin=0, vmax=len(masks) + 1, interpolation="none")
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], ["masks", *TARGETS], strict=True):
        axis.set_title(title, fontsize=9)
    panels = ("width in pixels", "boundary kept", "pairs separated", "pairs lost")
    for axis, measure in zip(bottom.subplots(1, len(panels)), panels, strict=True):
        for result, style in zip(results.values(), LINES, strict=False):
            for name, colour in zip(TARGETS, ROW_COLOURS, strict=False):
                values = [row[measure] for row in result["rows"] if row["target"] == name]
                axis.plot(STRIDES, values, style, color=colour, marker="o", ms=3)
        axis.set_title(measure, fontsize=9)
        axis.set_xscale("log", base=2)
        axis.set_xticks(STRIDES, [str(s) for s in STRIDES])
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.set_xlabel("stride", fontsize=8)
        if measure.startswith("width"):
            axis.set_yscale("log", base=2)
            axis.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        else:
            axis.set_ylim(-0.04, 1.04)
    handles = [Line2D([], [], color=c, label=n) for n, c in zip(TARGETS, ROW_COLOURS, strict=False)]
    handles += [
        Line2D([], [], color="grey", linestyle=style, label=name)
        for name, style in zip(results, LINES, strict=False)
    ]
    bottom.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return whole


def main(
    data: Annotated[
        Path | None, typer.Option(envvar="B2INST_COCO_TINY", help="A COCO-format folder.")
    ] = None,
    split: Annotated[str, typer.Option(help="Its split.")] = "val2017",
) -> None:
    """Compare the targets, print a table, write JSON and figure."""
    workspace = Workspace.here()
    plan = load_profile("tiny")
    scenes = load_split(prepare(plan.data, workspace.data), "test", workspace.data)
    sets = {"scenes": (scenes, plan.options["shorter"], plan.options["longer_max"])}
    if data is not None:
        sets["photographs"] = (CocoIndex.load(*find_split(data, split)), 800, 1333)
    results = {}
    for name, (index, *size) in sets.items():
        found = audit(network_masks(index, *size))
        results[name] = {"size": size, "fingerprint": index.fingerprint, **found}
        typer.echo(f"{name}\n{pd.DataFrame(found['rows']).to_string(index=False)}")
    content = {**results, "provenance": describe_machine()}
    write_json(workspace.results / "tiny" / "boundary_targets.json", content)
    # The scene with most touching instances, not one picked by hand.
    shown = max(network_masks(*sets["scenes"]), key=lambda masks: len(touching(masks)))
    save_figure(figure(shown, results), workspace.results / "tiny" / "boundary_targets.png")


if __name__ == "__main__":
    typer.run(main)
