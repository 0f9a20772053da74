"""Our speed beside that of the peers themselves, on the same weights and images.

    PYTHONPATH=tests .venv/bin/python experiments/peers/speed.py --adelaidet AdelaiDet
        --detectron2 detectron2 --yolact yolact --reference REFERENCE --before OLDER_CHECKOUT

The checkouts are the user's own; rows whose peer is not given keep what was measured before. Each
row is a process of its own, on one thread: peer and ours take turns on every image, and CPU
seconds are compared pair by pair. docs/benchmark.md says more, and its table is drawn here from
``results/peers-speed.json``, to which the rows are written.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from lightning.fabric import Fabric
from reference.blendmask_training import LOSSES
from reference.fixtures import read_spec
from reference.reference_weights import make_weights
from scipy.stats import quantile_test
from speed_peers import (
    LEARNING_RATE,
    AdelaiDet,
    Found,
    TorchvisionMaskRCNN,
    Yolact,
    import_adelaidet,
)
from torch import Tensor

import b2inst
from b2inst.benchmark import composed_samples
from b2inst.data import make_scene
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine, git_state, now
from b2inst.experiments.runs.store import read_json, write_json
from b2inst.models import create_model
from b2inst.structures import Targets
from b2inst.training import Schedule
from b2inst.weights import save_model
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.yolact import YOLACT

#: (height, width) of the images to predict, a common one of COCO's: 800×1199 at 800 pixels.
IMAGE = (427, 640)
#: Of float32, see ``agreement`` and ``difference``; the rest is only told.
LEAST_AGREEMENT, LARGEST_DIFFERENCE = 0.98, 1e-4
#: The table in docs/benchmark.md lies between these lines.
BEGIN, END = "<!-- drawn by experiments/peers/speed.py -->", "<!-- end of what is drawn -->"

Row = dict[str, Any]


@dataclass
class Options:
    """What a row is measured with."""

    adelaidet: Path | None = None
    detectron2: Path | None = None
    yolact: Path | None = None
    reference: Path | None = None
    before: Path | None = None
    calibrate: Path | None = None
    profile: str = "tiny"
    rounds: int = 5
    images: int = 3


@dataclass(frozen=True)
class Contender:
    """Something that is timed."""

    name: str
    work: Callable[[Any], Any]  #: timed
    read: Callable[[Any], Any] = lambda found: found  #: for comparison, not timed
    least: float = 0.0  #: agreement with the peer that it must have
    compared: Callable[[Any], Any] | None = None  #: instead of ``work``, where that differs


@dataclass
class Line:
    """A row to measure: what it needs, and how it is done."""

    name: str
    peer: str
    measure: Callable[[Options], Row]
    needs: Sequence[str] = ()  #: of ``Options``
    unit: str = "CPU s"


def interleave(
    contenders: Sequence[Contender],
    inputs: Sequence[Any],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> tuple[dict[str, list[float]], dict[str, list[Any]]]:
    """Seconds of each contender, in the same order of inputs, and what it found in the first round.

    Each input goes through all contenders before the next comes, and another begins each time.
    Before that, all take the first input once.
    """
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    found: dict[str, list[Any]] = {c.name: [] for c in contenders}
    for contender in contenders:
        contender.work(inputs[0])
    for i in range(rounds * len(inputs)):
        turn = i % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            begin = clock()
            made = contender.work(inputs[i % len(inputs)])
            seconds[contender.name].append(clock() - begin)
            if i < len(inputs):
                if contender.compared is not None:
                    made = contender.compared(inputs[i])
                found[contender.name].append(contender.read(made))
    return seconds, found


def ratio(peer: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Median of the peer's by ours, pair by pair, with the interval of that median by ranks."""
    ratios = np.divide(peer, ours)
    middle = float(np.median(ratios))
    low, high = quantile_test(ratios, q=middle, p=0.5).confidence_interval(0.95)
    known = len(ratios) > 1 and not np.isnan(low + high)
    interval = [round(float(low), 3), round(float(high), 3)] if known else None
    return {"ratio": round(middle, 3), "ratio_ci95": interval}


def agreement(theirs: Found, ours: Found) -> float:
    """Mean over both sides' masks of the IoU with the other side's best mask of the same class.

    Empty masks are left out; 1 where there is none on either side.
    """
    (labels, masks), (own_labels, own_masks) = (_filled(*found) for found in (theirs, ours))
    if not len(masks) or not len(own_masks):
        return float(len(masks) == len(own_masks))
    inner = masks @ own_masks.T
    ious = inner / (masks.sum(1)[:, None] + own_masks.sum(1) - inner)
    ious = ious * (labels[:, None] == own_labels)
    return float(torch.cat([ious.amax(1), ious.amax(0)]).mean())


def _filled(labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    some = masks.flatten(1).any(1)
    return labels[some], masks[some].flatten(1).float()


def difference(theirs: Mapping[str, float], ours: Mapping[str, float]) -> float:
    """Largest relative difference of losses that both sides have."""
    return max(abs(ours[name] / theirs[name] - 1) for name in theirs)


def compared(
    contenders: Sequence[Contender],
    seconds: Mapping[str, list[float]],
    compare: Callable[[Contender], dict[str, float]],
    *,
    left_out: Mapping[str, str],
) -> Row:
    """The row of a peer, which comes first among the contenders, and of ours."""
    peer, *ours = contenders
    return {
        "peer_median": round(median(seconds[peer.name]), 3),
        "ours": {
            c.name: {"median": round(median(seconds[c.name]), 3)}
            | ratio(seconds[peer.name], seconds[c.name])
            | compare(c)
            for c in ours
        },
        "left_out": dict(left_out),
        "pairs": len(seconds[peer.name]),
        "measured": {name: [round(s, 4) for s in taken] for name, taken in seconds.items()},
    }


# Predictions


def predictions(
    peer: Contender, model: Any, options: Options, *, least: float = LEAST_AGREEMENT
) -> Row:
    """A peer beside our model of the same weights, loaded from a file as users load it."""
    samples = (s.image for s in composed_samples(12 * options.images))
    images = [image for image in samples if image.shape[:2] == IMAGE][: options.images]
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, path)
        contenders = [peer, *our_predictors(path, options, left_out, least=least)]
        seconds, found = interleave(contenders, images, rounds=options.rounds)

    if not _count(found[peer.name]):
        raise RuntimeError(f"{peer.name} finds nothing in these images, which is no work to time")

    def compare(contender: Contender) -> dict[str, float]:
        pairs = zip(found[peer.name], found[contender.name], strict=True)
        agreed = float(np.mean([agreement(*pair) for pair in pairs]))
        if agreed < contender.least:
            raise RuntimeError(
                f"{contender.name}: masks agree with {peer.name}'s to only {agreed:.3f}; "
                f"at least {contender.least} is needed to compare times"
            )
        return {"agreement": round(agreed, 4), "detections": _count(found[contender.name])}

    row = compared(contenders, seconds, compare, left_out=left_out)
    return row | {"peer_detections": _count(found[peer.name])}


def _count(found: Sequence[Found]) -> float:
    return median(len(labels) for labels, _ in found)


def our_predictors(
    path: Path, options: Options, left_out: dict[str, str], *, least: float
) -> Iterator[Contender]:
    """Ours of a weights file; ``left_out`` is told why one is missing."""

    for runtime in (None, "onnx", "openvino"):
        int8 = runtime is not None and options.calibrate is not None
        for kind in ("float32", "bfloat16", *(["int8"] if int8 else [])):
            name = kind if runtime is None else f"{runtime}, {kind}"
            try:
                model = _load(path, runtime, kind, options)
            except (ImportError, ValueError, RuntimeError) as error:
                left_out[name] = str(error)
                continue
            yield Contender(
                name,
                lambda image, model=model: model.predict([image])[0],
                lambda found: (found.labels, found.masks),
                least if name == "float32" else 0.0,
            )


def _load(path: Path, runtime: str | None, kind: str, options: Options) -> Any:
    """Raises ValueError or ImportError where that is not there, or an extra not installed."""
    if runtime is not None:
        path = _export(path, runtime, kind, options)
    if kind != "bfloat16":
        return b2inst.load_model(path)
    if "precision" not in signature(b2inst.load_model).parameters:
        raise ValueError("load_model has no precision here")
    return b2inst.load_model(path, precision=kind)


def _export(path: Path, runtime: str, kind: str, options: Options) -> Path:
    from b2inst.export import export_model  # an extra

    out = path.with_name(kind + {"onnx": ".onnx", "openvino": ".xml"}[runtime])
    images = None
    if kind == "int8" and options.calibrate is not None:
        images = sorted(options.calibrate.rglob("*.jpg"))[:100]
    return export_model(path, out, to=runtime, calibration=images)


def _blendmask_weights(options: Options, attention_size: int) -> tuple[dict[str, Tensor], str]:
    return _weights(options, f"blendmask_attn{attention_size}_spec.json")


def _weights(options: Options, spec: str) -> tuple[dict[str, Tensor], str]:
    assert options.reference is not None
    path = options.reference / spec
    made = make_weights(read_spec(path), 0, path)
    return {name: torch.from_numpy(value) for name, value in made.items()}, str(path)


def _adelaidet(options: Options, attention_size: int) -> tuple[AdelaiDet, Any]:
    """The peer, and our model of the same weights."""
    weights, source = _blendmask_weights(options, attention_size)
    peer = _peer_of(options, weights, attention_size)
    return peer, ADELAIDET.load(weights, source=source)


def _peer_of(options: Options, weights: Mapping[str, Tensor], attention_size: int) -> AdelaiDet:
    assert options.adelaidet is not None
    return AdelaiDet(
        options.adelaidet,
        detectron2=options.detectron2,
        weights=weights,
        attention_size=attention_size,
    )


def predict_blendmask(options: Options, *, attention_size: int) -> Row:
    """BlendMask R-50 at 800×1199."""
    peer, model = _adelaidet(options, attention_size)
    return predictions(Contender("AdelaiDet", peer.predict, peer.read), model, options)


def predict_yolact(options: Options) -> Row:
    """YOLACT R-50 at 550×550."""
    assert options.yolact is not None
    weights, source = _weights(options, "yolact_r50_spec.json")
    peer = Yolact(options.yolact.resolve(), weights=weights)
    model = YOLACT.load(weights, source=source)
    return predictions(Contender("yolact", peer.predict, peer.read), model, options)


def predict_mask_rcnn(options: Options) -> Row:
    """Mask R-CNN R-50 at 800×1199."""
    peer = TorchvisionMaskRCNN()
    model = create_model("maskrcnn-r50", num_classes=80, frozen_norm=True).eval()
    model.load_state_dict(peer.own_weights())
    aligned = peer.aligned()
    theirs = Contender("torchvision", peer.predict, peer.read, compared=aligned.predict)
    # torchvision also pastes into boxes of whole pixels, which moves the masks' edges.
    return predictions(theirs, model, options, least=0.85)


# Training


@dataclass(frozen=True)
class Setting:
    """One of our models in training."""

    name: str
    model: str = "blendmask-r50"
    precision: Any = "32-true"
    channels_last: bool = False
    same: bool = field(default=False, kw_only=True)  #: as the peer's, number for number


SETTINGS = (
    Setting("BlendMask, float32", same=True),
    Setting("B2Inst, float32", "b2inst-blendmask-r50"),
    Setting("B2Inst, bfloat16", "b2inst-blendmask-r50", "bf16-mixed", True),
)


def batch(height: int, width: int, count: int = 2) -> tuple[list[Tensor], list[Targets]]:
    """Procedural scenes, cut to size, as a batch of training."""
    images, targets = [], []
    for number in range(count):
        scene = make_scene(number, max(height, width))
        masks = torch.from_numpy(scene.masks[:, :height, :width]).to(torch.uint8)
        seen = masks.flatten(1).sum(1) >= 64
        masks, labels = masks[seen], torch.from_numpy(scene.labels)[seen]
        spans = [(m.any(0).nonzero()[:, 0], m.any(1).nonzero()[:, 0]) for m in masks]
        boxes = [(x[0], y[0], x[-1] + 1, y[-1] + 1) for x, y in spans]
        images.append(torch.from_numpy(scene.image[:height, :width]).permute(2, 0, 1).contiguous())
        targets.append(
            Targets(
                image_id=number,
                boxes=torch.tensor(boxes, dtype=torch.float32),
                labels=labels,
                masks=masks,
                semantic=(masks * (labels + 1)[:, None, None]).amax(0),
                crowds=torch.zeros(0, 4),
            )
        )
    return images, targets


def our_step(
    setting: Setting, weights: Mapping[str, Tensor], data: tuple[list[Tensor], list[Targets]]
) -> Callable[[Any], Mapping[str, Tensor]]:
    """A step as ``b2inst.training.train`` takes it, of a model with what it has of the weights."""
    torch.manual_seed(0)
    model = create_model(setting.model, num_classes=80, frozen_norm=True, msra=True)
    own = model.state_dict()
    fitting = {n: v for n, v in weights.items() if n in own and v.shape == own[n].shape}
    model.load_state_dict(fitting, strict=False)
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    fabric = Fabric(accelerator="cpu", devices=1, precision=setting.precision)
    optimizer, _ = Schedule(learning_rate=LEARNING_RATE).optimizer_for(model)
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    images, targets = data

    def step(_: Any) -> Mapping[str, Tensor]:
        losses: dict[str, Tensor] = wrapped(images, targets)
        fabric.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return losses

    return step


def train_blendmask(options: Options, *, height: int, width: int) -> Row:
    """A training step of a batch of two."""
    data = batch(height, width)
    peer, model = _adelaidet(options, 7)
    weights = model.state_dict()
    theirs = peer.training_step(*data)
    contenders = [Contender("AdelaiDet", lambda _: theirs(), _losses)]
    for setting in SETTINGS:
        step = our_step(setting, weights, data)
        contenders.append(Contender(setting.name, step, _losses))
    seconds, losses = interleave(contenders, [None], rounds=options.rounds * options.images)
    same = {setting.name: setting.same for setting in SETTINGS}

    def compare(contender: Contender) -> dict[str, float]:
        ((first,), (own,)) = losses["AdelaiDet"], losses[contender.name]
        if not same[contender.name]:
            return {}
        apart = difference(first, own)
        if apart > LARGEST_DIFFERENCE:
            raise RuntimeError(f"{contender.name}: losses {own}, AdelaiDet's {first}")
        return {"loss_difference": float(f"{apart:.1e}")}

    return compared(contenders, seconds, compare, left_out={})


def _losses(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """By the published names."""
    return {LOSSES.get(name, name): float(value.detach()) for name, value in losses.items()}


def memory(options: Options) -> Row:
    """Most resident memory of a training step, weights included, in a process each."""
    names = ["AdelaiDet", *(setting.name for setting in SETTINGS)]
    megabytes = {name: [_part(f"memory of {name}", options)["megabytes"]] for name in names}
    return compared([Contender(n, print) for n in names], megabytes, lambda _: {}, left_out={})


def memory_of(options: Options, *, name: str) -> Row:
    """Of one contender, over what the process had once it had imported all."""
    assert options.adelaidet is not None
    data = batch(640, 800)
    weights, source = _blendmask_weights(options, 7)
    import_adelaidet(options.adelaidet, options.detectron2)
    before, _ = _resident()
    if name == "AdelaiDet":
        step = _peer_of(options, weights, 7).training_step(*data)
    else:
        (own,) = (setting for setting in SETTINGS if setting.name == name)
        state = ADELAIDET.load(weights, source=source).state_dict()
        step = partial(our_step(own, state, data), None)
        del state
    for _ in range(2):
        step()
    most = _resident()[1] - before
    return {"megabytes": round(most, 1)}


def _resident() -> tuple[float, float]:
    """Resident memory and its peak so far, in 10⁶ bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii").split("\n")
    lines = dict(line.split(":", 1) for line in status if line)
    rss, peak = (int(lines[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
    return rss, peak


# The command line


def start_up(options: Options, *, arguments: Sequence[str], cached: bool) -> Row:
    """CPU seconds of a command, beside those in an older checkout."""
    with tempfile.TemporaryDirectory() as folder:
        empty = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {} if cached else empty
        contenders = [
            Contender(name, partial(_command, checkout, arguments, folder, environment))
            for name, checkout in _checkouts(options)
        ]
        rounds = options.rounds
        seconds, _ = interleave(contenders, [None], rounds=rounds, clock=_children_seconds)
    return compared(contenders, seconds, lambda _: {}, left_out={})


def table1(options: Options) -> Row:
    """``make table1`` of one seed, from nothing; CPU seconds of all its processes."""

    def run(checkout: Path, _: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for part in ("experiments", "notebooks"):
                shutil.copytree(checkout / part, Path(folder) / part)
            told = ["table", "table1", "--profile", options.profile, "--seeds", "0"]
            _command(checkout, told, folder, {}, None)

    contenders = [Contender(name, partial(run, path)) for name, path in _checkouts(options)]
    seconds: dict[str, list[float]] = {}
    for contender in contenders:
        begin = _children_seconds()
        contender.work(None)
        seconds[contender.name] = [_children_seconds() - begin]
    return compared(contenders, seconds, lambda _: {}, left_out={}) | {"profile": options.profile}


def _checkouts(options: Options) -> list[tuple[str, Path]]:
    assert options.before is not None
    commit, _ = git_state(options.before.resolve() / "b2inst")
    before = f"b2inst {commit[:7]}" if commit else "b2inst before"
    return [(before, options.before.resolve()), ("b2inst now", _here())]


def _here() -> Path:
    return Path(b2inst.__file__).parents[1]


def _command(
    checkout: Path, arguments: Sequence[str], folder: str, environment: Mapping[str, str], _: Any
) -> None:
    """``b2inst …`` of a checkout, in a folder."""
    command = [sys.executable, "-c", "from b2inst.cli import app; app()", *arguments]
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["nothing was printed"]
        raise RuntimeError(f"{checkout}: b2inst {' '.join(arguments)}: {lines[-1]}")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# The table


BLENDMASK = ("adelaidet", "reference")
LINES = (
    Line(
        "BlendMask R-50, A=14, 800×1199",
        "AdelaiDet",
        partial(predict_blendmask, attention_size=14),
        BLENDMASK,
    ),
    Line(
        "BlendMask R-50, A=7, 800×1199",
        "AdelaiDet",
        partial(predict_blendmask, attention_size=7),
        BLENDMASK,
    ),
    Line("YOLACT R-50, 550×550", "yolact", predict_yolact, ("yolact", "reference")),
    Line("Mask R-CNN R-50, 800×1199", "torchvision", predict_mask_rcnn),
    Line(
        "training step, A=7, 2 images of 320×416",
        "AdelaiDet",
        partial(train_blendmask, height=320, width=416),
        BLENDMASK,
    ),
    Line(
        "peak memory of a training step, 2 images of 640×800",
        "AdelaiDet",
        memory,
        BLENDMASK,
        unit="MB",
    ),
    Line(
        "`b2inst --help` without cached bytecode",
        "before",
        partial(start_up, arguments=["--help"], cached=False),
        ("before",),
    ),
    Line(
        "`b2inst --help`",
        "before",
        partial(start_up, arguments=["--help"], cached=True),
        ("before",),
    ),
    Line("`make table1`, one seed", "before", table1, ("before",)),
)
PARTS = {line.name: line.measure for line in LINES} | {
    f"memory of {name}": partial(memory_of, name=name)
    for name in ("AdelaiDet", *(setting.name for setting in SETTINGS))
}


def main(
    adelaidet: Annotated[Path | None, typer.Option(help="Checkout of AdelaiDet.")] = None,
    detectron2: Annotated[
        Path | None, typer.Option(help="Checkout of detectron2, unless it is installed.")
    ] = None,
    yolact: Annotated[Path | None, typer.Option(help="Checkout of dbolya's yolact.")] = None,
    reference: Annotated[
        Path | None, typer.Option(envvar="B2INST_REFERENCE", help="Folder of reference specs.")
    ] = None,
    before: Annotated[Path | None, typer.Option(help="An older checkout of b2inst.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of photographs, for the int8 exports.")
    ] = None,
    only: Annotated[str, typer.Option(help="Rows whose name has this in it.")] = "",
    profile: Annotated[str, typer.Option(help="Of `make table1`.")] = "tiny",
    rounds: Annotated[int, typer.Option(min=1, help="Of all images.")] = 5,
    images: Annotated[int, typer.Option(min=1)] = 3,
    part: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the rows whose peer is given, and draw the table."""
    options = Options(
        adelaidet, detectron2, yolact, reference, before, calibrate, profile, rounds, images
    )
    if part:
        torch.set_num_threads(1)
        typer.echo("\n" + json.dumps(PARTS[part](options)))
        return
    workspace = Workspace.here()
    file, page = workspace.published / "peers-speed.json", workspace.root / "docs/benchmark.md"
    rows: dict[str, Row] = read_json(file)["rows"] if file.is_file() else {}
    for line in LINES:
        missing = [name for name in line.needs if getattr(options, name) is None]
        if only not in line.name:
            continue
        if missing:
            typer.echo(f"{line.name}: left out; give --{' and --'.join(missing)}")
            continue
        rows[line.name] = measured(line, options)
        rows = {one.name: rows[one.name] for one in LINES if one.name in rows}
        write_json(file, {"rows": rows})
        typer.echo(to_markdown({line.name: rows[line.name]}))
    if not page.is_file() or not drawn(page, to_markdown(rows)):
        typer.echo(to_markdown(rows))


def measured(line: Line, options: Options) -> Row:
    """A row in a process of its own, with what it rests on."""
    provenance = describe_machine() | {"began": now()}
    used = [*line.needs, *(["detectron2"] if "adelaidet" in line.needs else [])]
    paths = {name: getattr(options, name) for name in used if name != "reference"}
    checkouts = {name: _commit(path) for name, path in paths.items() if path is not None}
    row = {"peer": line.peer, "unit": line.unit} | _part(line.name, options)
    return row | {"checkouts": checkouts, "provenance": provenance | {"threads": 1}}


def _part(name: str, options: Options) -> Row:
    command = [sys.executable, __file__, "--part", name]
    for key, value in vars(options).items():
        command += [] if value is None else [f"--{key}", str(value)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | threads
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _commit(checkout: Path) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip() or None


def to_markdown(rows: Mapping[str, Row]) -> str:
    """A line for each of ours beside its peer."""
    text = [
        "| | peer | peer's time | our variant | our time | peer / ours | agreement |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        for own, cell in row["ours"].items():
            interval = cell["ratio_ci95"]
            between = f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else ""
            agree = "–"
            if "agreement" in cell:
                agree = f"IoU {cell['agreement']:.3f}"
            elif "loss_difference" in cell:
                agree = f"losses to {cell['loss_difference']:.0e}"
            cells = [
                name,
                row["peer"],
                _amount(row["peer_median"], row["unit"]),
                own,
                _amount(cell["median"], row["unit"]),
                f"{cell['ratio']:.2f}{between}",
                agree,
            ]
            text.append(f"| {' | '.join(cells)} |")
    missing = {own: why for row in rows.values() for own, why in row["left_out"].items()}
    if missing:
        text += ["", "Not measured: " + "; ".join(f"{o} ({w})" for o, w in missing.items()) + "."]
    return "\n".join(text) + "\n"


def _amount(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if unit == "MB" else f"{value:.2f} {unit}"


def drawn(page: Path, table: str) -> bool:
    """Whether the page has a place for the table, where it then stands."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text:
        return False
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return True


if __name__ == "__main__":
    typer.run(main)
