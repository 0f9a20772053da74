"""Models whose network runs in ONNX Runtime or OpenVINO, written by ``b2inst.export``.

A file has the network's graph, and in its metadata the recipe and the weights of what stays in
Python.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from b2inst.models import BasisSegmenter, Segmenter
from b2inst.structures import Bases, Features
from b2inst.weights.errors import WeightsError

#: The runtime of each ending; also the name of the extra that installs it.
RUNTIMES = {".onnx": "onnx", ".xml": "openvino"}

#: A network: B×3×H×W float32, and whether convolutions may use bfloat16, to arrays by name.
Run = Callable[[np.ndarray, bool], dict[str, np.ndarray]]


class ExportedNetwork(nn.Module):
    """A network in another runtime, on the CPU; copies of the module share it.

    ``run`` returns arrays named ``features.8`` (by stride), ``head.class_logits``,
    ``head.towers.0`` (in a list), ``bases.maps``; ``outputs`` is the dataclass of the head's.
    Two-stage models have none: only their features are computed.
    """

    def __init__(self, run: Run, *, outputs: type | None, stride: float | None) -> None:
        super().__init__()
        self._run, self._outputs, self._stride = run, outputs, stride

    def forward(self, images: Tensor) -> Features | tuple[Features, Any, Bases]:
        if self.training:
            raise RuntimeError("an exported model only predicts; train the weights it was made of")
        bfloat16 = torch.is_autocast_enabled(images.device.type)
        parts: dict[str, dict[str, Any]] = {"features": {}, "head": {}, "bases": {}}
        for key, array in self._run(images.float().cpu().numpy(), bfloat16).items():
            part, name, *level = key.split(".")
            value = torch.from_numpy(array).to(images.device)
            if level:
                parts[part].setdefault(name, []).append(value)
            else:
                parts[part][name] = value
        features = {int(stride): level for stride, level in parts["features"].items()}
        if self._outputs is None or self._stride is None:
            return features
        bases = Bases(stride=self._stride, **parts["bases"])
        return features, self._outputs(**parts["head"]), bases


def read_exported(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], Run]:
    """Open a file of ``b2inst.export``; WeightsError if that is not possible.

    Returns:
        The card as of ``weights.files``, with ``exported`` on how the file was made; the weights of
        what stays in Python; and the network.
    """
    extra = RUNTIMES[path.suffix.lower()]
    if extra == "openvino" and path.is_file() and not path.with_suffix(".bin").is_file():
        raise WeightsError(f"{path}: {path.stem}.bin is missing beside it; copy both files")
    read, module = (_read_onnx, "onnxruntime") if extra == "onnx" else (_read_openvino, extra)
    runtime = import_extra(module, extra)
    try:
        metadata, run = read(runtime, path)
    except Exception as error:  # the runtimes' own exceptions have no common base
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"{path}: missing, damaged, or no model of {extra} ({reason})"
        ) from error
    try:
        card = json.loads(metadata["b2inst"])
        tensors = safetensors.torch.load(base64.b64decode(metadata["b2inst_weights"]))
    except (KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: no b2inst recipe; give a file of b2inst export") from error
    return card, tensors, run


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional extra; WeightsError if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise WeightsError(
            f"{module} is not installed ({error}); pip install 'b2inst[{extra}]'"
        ) from error


def attach(model: Segmenter, run: Run, exported: dict[str, Any]) -> None:
    """Replace the network of a new model by that of a file, which was ``exported`` in some way."""
    outputs = getattr(getattr(model, "instance_head", None), "outputs", None)
    network = ExportedNetwork(run, outputs=outputs, stride=exported["stride"])
    replace_network(model, network.train(model.training))
    model.recipe = model.recipe | {"exported": exported}


def replace_network(model: Segmenter, network: nn.Module) -> None:
    """Replace a model's network, and remove its parts."""
    if not isinstance(model, BasisSegmenter):
        model.backbone = network
        return
    model.exported = network
    model.backbone, model.basis_head = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    head: Any = model.instance_head
    for name in {name for name, _ in head.named_children()} - {"coefficients"}:
        delattr(head, name)


def _read_onnx(onnxruntime: Any, path: Path) -> tuple[dict[str, str], Run]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray, bfloat16: bool) -> dict[str, np.ndarray]:  # float32 only
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return session.get_modelmeta().custom_metadata_map, run


def _read_openvino(openvino: Any, path: Path) -> tuple[dict[str, str], Run]:
    core = openvino.Core()
    model = core.read_model(path)
    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}

    @cache
    def compiled(precision: str) -> Any:
        return core.compile_model(model, "CPU", hints | {"INFERENCE_PRECISION_HINT": precision})

    def run(images: np.ndarray, bfloat16: bool) -> dict[str, np.ndarray]:
        outputs = compiled("bf16" if bfloat16 else "f32")(images)
        return {output.any_name: value for output, value in outputs.items()}

    keys = [key for key in ("b2inst", "b2inst_weights") if model.has_rt_info(key)]
    return {key: model.get_rt_info(key).astype(str) for key in keys}, run
