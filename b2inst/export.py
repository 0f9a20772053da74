"""Export of models to ONNX Runtime or OpenVINO."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import tempfile
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

from b2inst.models import BasisSegmenter, Segmenter
from b2inst.weights.errors import WeightsError
from b2inst.weights.exported import RUNTIMES, import_extra, replace_network
from b2inst.weights.files import load_model, model_card

Runtime = Literal["onnx", "openvino"]

#: Since 21, ONNX has a group norm of its own, which OpenVINO computes at once and in float32. ONNX
#: Runtime is faster with the operations it consisted of before.
_OPSETS: dict[Runtime, int] = {"onnx": 18, "openvino": 21}


def export_model(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: Runtime,
    overwrite: bool = False,
) -> Path:
    """Export a model to another runtime, for prediction with ``b2inst.load_model``.

    The graph contains the network: backbone, pyramid, instance head and bases (backbone and pyramid
    of two-stage models), with batch norms fused into convolutions, for any number and size of
    images (or the model's fixed size). The rest is predicted in Python; its weights and the recipe
    are in the metadata of the file.

    Args:
        weights: File of ``save_model``.
        out: File to write, ``.onnx``, or ``.xml`` with a ``.bin`` beside it (default: beside
            ``weights``).
        to: Runtime.
        overwrite: Whether to replace existing files.

    Returns:
        Path of the file.

    Raises:
        WeightsError: An extra is not installed, the weights cannot be read or exported, or ``out``
            has another suffix.
        FileExistsError: The file exists.
    """
    weights = Path(weights)
    suffix = next(ending for ending, runtime in RUNTIMES.items() if runtime == to)
    out = weights.with_suffix(suffix) if out is None else Path(out)
    if out.suffix != suffix:
        raise WeightsError(f"{out}: a file for {to} ends with {suffix}")
    files = [out] if to == "onnx" else [out.with_suffix(".bin"), out]  # the model's name last
    for file in files:
        if os.path.lexists(file) and not overwrite:
            raise FileExistsError(f"{file}: is there already; choose another, or --overwrite")
    for module in ("onnx", "onnxscript", *({to} - {"onnx"})):
        import_extra(module, to)
    model = load_model(weights)
    if getattr(model, "oracle", None) is not None or "exported" in model.recipe:
        raise WeightsError(f"{weights}: only a model that predicts by itself can be exported")
    network = _Network(model).eval()
    with weights.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        plain = Path(folder) / "network.onnx"
        _write_onnx(network, plain, opset=_OPSETS[to])
        exported = {"runtime": to, "weights": digest, "stride": network.stride}
        replace_network(model, nn.Identity())
        metadata = {
            "b2inst": json.dumps(model_card(weights) | {"exported": exported}),
            "b2inst_weights": base64.b64encode(safetensors.torch.save(model.state_dict())).decode(),
        }
        (_add_metadata if to == "onnx" else _to_openvino)(plain, metadata)
        for file in files:
            plain.with_suffix(file.suffix).replace(file)
    return out


class _Network(nn.Module):
    """The exported part of a model; ``names`` of its outputs are known after the first call."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        for parent in list(self.model.modules()):
            for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
                if isinstance(conv, nn.Conv2d) and isinstance(
                    norm, nn.BatchNorm2d | FrozenBatchNorm2d
                ):
                    setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, norm_name, nn.Identity())
        self.names: list[str] = []
        self.stride: float | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        model = self.model
        if not isinstance(model, BasisSegmenter):
            features = model.backbone(images)
            named = {f"features.{stride}": level for stride, level in features.items()}
        else:
            features, outputs, bases = model.network(images)
            scorer = model.scoring_head
            needed = () if scorer is None else scorer.pooler.strides
            named = {f"features.{stride}": features[stride] for stride in needed}
            for field in fields(outputs):
                value = getattr(outputs, field.name)
                if isinstance(value, list):
                    named |= {f"head.{field.name}.{i}": level for i, level in enumerate(value)}
                else:
                    named[f"head.{field.name}"] = value
            named["bases.maps"] = bases.maps
            if bases.boundary_logits is not None:
                named["bases.boundary_logits"] = bases.boundary_logits
            self.stride = bases.stride
        self.names = list(named)
        return list(named.values())


def _write_onnx(network: _Network, path: Path, *, opset: int) -> None:
    size = network.model.preprocessor.fixed_size
    # No side of a level is 1, which would be taken for a constant.
    example = torch.zeros(2, 3, *(size or (256, 384)))
    varied = (0,) if size else (0, 2, 3)
    with torch.inference_mode():
        network(example)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes={"images": dict.fromkeys(varied, torch.export.Dim.DYNAMIC)},
        input_names=["images"],
        output_names=network.names,
        opset_version=opset,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def _add_metadata(plain: Path, metadata: dict[str, str]) -> None:
    import onnx

    model = onnx.load(plain)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, plain)


def _to_openvino(plain: Path, metadata: dict[str, str]) -> None:
    import openvino

    model: Any = openvino.Core().read_model(plain)
    for key, value in metadata.items():
        model.set_rt_info(value, key)
    openvino.save_model(model, plain.with_suffix(".xml"), compress_to_fp16=False)
