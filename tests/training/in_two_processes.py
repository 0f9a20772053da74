"""What two processes do together, beside what one does alone; a script of test_several_devices.

``python in_two_processes.py ANNOTATIONS IMAGES OUT``. Two forks of one process, which then has
imported everything once; gradients must not be taken before the fork. The first leaves what it
found in ``OUT/found-0.json``, the second in ``OUT/found-1.json``.
"""

from __future__ import annotations

import copy
import json
import multiprocessing as mp
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from b2inst.data import CocoDataset, CocoIndex, make_scene, train_transforms
from b2inst.evaluation import write_predictions
from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.mask_heads import MaskIoUHead, boundary_loss, class_mask_loss
from b2inst.modules.semantic_heads import ClassMapHead, FocalSemanticHead, SemanticHead
from b2inst.ops.distributed import even_share, from_rank_zero, gathered, mean_over_devices
from b2inst.structures import RoIOutputs, RoISamples, Targets
from b2inst.training import NonFiniteLossError, Schedule, train
from b2inst.training.devices import World, launch, leave, synchronise_norms

SIZE = 64

#: What the full-size models of a family are trained for beside the masks.
AUXILIARY: dict[str, Callable[..., torch.nn.Module]] = {
    "blendmask-tiny": SemanticHead,
    "condinst-tiny": FocalSemanticHead,
    "yolact-tiny": ClassMapHead,
}
LOCAL = {"boundary": {"local": True, "as_basis": False, "crisp_weight": 0.5}}
#: Every loss of every family.
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("blendmask-tiny", {}),
    ("b2inst-blendmask-tiny", {}),
    ("b2inst-blendmask-tiny", LOCAL),
    ("yolact-tiny", {"size": SIZE}),
    ("b2inst-yolact-tiny", {"size": SIZE}),
    ("condinst-tiny", {}),
    ("b2inst-condinst-tiny", {"best_per_image": 4}),
]


def make_model(name: str, options: dict[str, Any]) -> BasisSegmenter:
    torch.manual_seed(0)
    model = create_model(name, num_classes=8, **options)
    if name in AUXILIARY:
        channels = model.backbone.out_channels
        model.basis_head.auxiliary = AUXILIARY[name](in_channels=channels, num_classes=8)
    return model


Batch = tuple[list[torch.Tensor], list[Targets]]


def batches() -> list[Batch]:
    """Four images each, of which a device gets every other one.

    Of the second batch one device's images have no objects at all, of the third both devices'.
    """
    scenes = [make_scene(seed, SIZE) for seed in range(4)]
    images = [torch.from_numpy(scene.image.copy()).permute(2, 0, 1) for scene in scenes]
    counts = [len(scene.labels) for scene in scenes]
    kept = ([counts[0], 0, counts[2], 1], [counts[0], 0, counts[2], 0], [0, 0, 0, 0])
    return [
        (images, [_targets(i, scenes[i], n) for i, n in enumerate(numbers)]) for numbers in kept
    ]


def _targets(image_id: int, scene: Any, objects: int) -> Targets:
    masks = torch.from_numpy(scene.masks[:objects])
    labels = torch.from_numpy(scene.labels[:objects])
    boxes = torch.zeros(objects, 4)
    semantic = torch.zeros((SIZE, SIZE), dtype=torch.uint8)
    for mask, box, label in zip(masks, boxes, labels, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        box[:] = torch.tensor([float(corner) for corner in corners])
        semantic[mask] = label.to(torch.uint8) + 1
    return Targets(image_id, boxes, labels, masks.to(torch.uint8), semantic)


def steps(model: torch.nn.Module, share: slice) -> Iterator[dict[str, torch.Tensor]]:
    """Losses and gradients of each batch, and what SGD makes of weights and statistics."""
    own = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    before = copy.deepcopy(model.state_dict())
    for images, targets in batches():
        losses = model(images[share], targets[share])
        torch.stack(list(losses.values())).sum().backward()
        losses = {name: mean_over_devices(loss).detach() for name, loss in losses.items()}
        yield losses | {name: p.grad.clone() for name, p in own.items() if p.grad is not None}
        optimizer.step()
        model.zero_grad()
    yield {k.removeprefix("module."): v - before[k] for k, v in model.state_dict().items()}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest, of any tensor in parts of its largest value; infinite where keys differ."""
    if one.keys() != other.keys():
        return float("inf")
    return max(
        float((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-3))
        for name, value in one.items()
    )


def losses_in_boxes(rows: slice) -> torch.Tensor:
    """Of two-stage models, whose boxes are drawn at random, those in given boxes."""
    torch.manual_seed(0)
    pooled, logits = torch.rand(4, 8, 14, 14), torch.randn(2, 4, 3, 28, 28)
    truths, labels = (torch.rand(4, 28, 28) > 0.5).float(), torch.tensor([2, 0, 1, 0])
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    masks[:, 2:30, 2:30] = truths.byte()  # a pixel a cell
    masks[0, 40:] = 1  # outside its box
    boxes = torch.tensor([[2.0, 2, 30, 30]]).expand(4, -1)
    target = Targets(0, boxes, labels, masks, masks[0])
    samples = RoISamples(boxes[rows], labels[rows], torch.arange(4)[rows])
    scorer = MaskIoUHead(in_channels=8, num_classes=3, channels=8, hidden=8)
    outputs = RoIOutputs(pooled[rows], logits[0, rows], logits[1, rows])
    losses = scorer.loss(outputs, [samples], [target])
    losses["mask"] = class_mask_loss(logits[0, rows], labels[rows], truths[rows])
    losses["boundary"] = boundary_loss(logits[1, rows], labels[rows], truths[rows])
    return torch.stack(list(losses.values())).detach()


class Noisy(BasisSegmenter):
    """Draws random numbers while it trains, another process other ones."""

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        rank = World.from_environment().rank
        losses = super().forward(images, targets)
        return {name: value * torch.rand(1 + rank)[-1] for name, value in losses.items()}


class Broken(BasisSegmenter):
    """Has a loss that is not a number, in the second process's second iteration."""

    calls = 0

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        losses = super().forward(images, targets)
        Broken.calls += 1
        if Broken.calls == 2 and World.from_environment().rank == 1:
            losses["loss_mask"] = losses["loss_mask"] * torch.nan
        return losses


def trained(
    index: CocoIndex,
    out: Path,
    kind: type[BasisSegmenter] = BasisSegmenter,
    *,
    stop_before_sample: int | None = None,
) -> str:
    """Train for four iterations; returns how it ended. Ctrl-C may come while data are loaded."""
    flips = train_transforms(shorter=SIZE, longer_max=SIZE, flip=0.5)
    samples: list[Any] = []

    def transforms(*sample: Any) -> Any:
        samples.append(sample)
        if len(samples) == stop_before_sample:
            signal.raise_signal(signal.SIGINT)
        return flips(*sample)

    torch.manual_seed(0)
    model = create_model("b2inst-blendmask-tiny", num_classes=8)
    model.__class__ = kind
    try:
        train(
            model,
            CocoDataset(index, transforms),
            schedule=Schedule(iterations=4, batch_size=4, log_every=1, checkpoint_every=1),
            seed=7,
            out=out,
            device="cpu",
            progress=False,
        )
    except (KeyboardInterrupt, NonFiniteLossError) as end:
        return str(end)
    return "done"


def predicted(index: CocoIndex, path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("b2inst-blendmask-tiny", num_classes=8, shorter=SIZE, longer_max=SIZE)
    model.instance_head.score_threshold = 0.0  # untrained, it is sure of nothing
    write_predictions(model.eval(), index, path, batch_size=2, progress=False)


def fails_in_first() -> None:
    raise ValueError("of the first")


def work(rank: int, port: int, annotations: str, images: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    index, out = CocoIndex.load(Path(annotations), Path(images)), Path(folder)
    found: dict[str, Any] = {}
    models = {f"{name} {options}": make_model(name, options) for name, options in MODELS}
    alone = {}
    if rank == 0:
        alone = {name: list(steps(copy.deepcopy(m), slice(None))) for name, m in models.items()}
        found["in boxes, alone"] = losses_in_boxes(slice(None)).tolist()
        trained(index, out / "alone")
        predicted(index, out / "alone.jsonl.gz")

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    fabric = launch(device="cpu")
    found["differences"] = {}
    for name, model in models.items():
        synchronise_norms(model, fabric.device)
        together = list(steps(DistributedDataParallel(model), slice(rank, None, 2)))
        found["differences"][name] = [
            difference(*pair) for pair in zip(alone.get(name, together), together, strict=True)
        ]
    found["in boxes"] = [
        mean_over_devices(losses_in_boxes(shares[rank])).tolist()
        for shares in ((slice(1), slice(1, 4)), (slice(4), slice(0)))
    ]
    found["together"] = trained(index, out / "together")
    found["whole"] = trained(index, out / "whole", Noisy)
    found["stopped"] = trained(
        index, out / "parts", Noisy, stop_before_sample=5 if rank == 1 else None
    )
    found["gone on"] = trained(index, out / "parts", Noisy)
    found["broken"] = trained(index, out / "broken", Broken)
    predicted(index, out / "together.jsonl.gz")
    found["share"] = even_share(torch.tensor(3.0 * rank)).item()
    found["least share"] = even_share(torch.tensor(0)).item()
    found["gathered"] = gathered(rank)
    found["from first"] = from_rank_zero(lambda: rank)
    try:
        from_rank_zero(fails_in_first)
    except ValueError as error:
        found["error of first"] = str(error)
    leave()
    found["joined"] = dist.is_initialized()
    (out / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    context = mp.get_context("fork")
    both = [context.Process(target=work, args=(rank, number, *sys.argv[1:])) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    sys.exit(any(process.exitcode for process in both))
