"""Export of models to ONNX Runtime or OpenVINO, in float32 or int8."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

from b2inst.data import CocoIndex, DataError, find_split, find_splits, read_image
from b2inst.data.images import as_array, walk_images
from b2inst.models import BasisSegmenter, Segmenter
from b2inst.weights.errors import WeightsError
from b2inst.weights.exported import import_extra, replace_network
from b2inst.weights.files import load_model, model_card

Runtime = Literal["onnx", "openvino"]

#: Reads an image file for the network.
_Read = Callable[[Path], np.ndarray]

os.environ.setdefault("NNCF_CI", "1")  # disables nncf's usage reports

#: Ending of files, module that is needed, and version of ONNX's operators. Since 21, ONNX has a
#: group norm of its own, which OpenVINO computes at once and in float32. ONNX Runtime is faster
#: with the operations it consisted of before.
_RUNTIMES: dict[Runtime, tuple[str, str, int]] = {
    "onnx": (".onnx", "onnxruntime", 18),
    "openvino": (".xml", "openvino", 21),
}


def export_model(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: Runtime,
    calibration: Sequence[Path] | None = None,
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
            ``weights``, with ``-int8`` in the name of a quantised model).
        to: Runtime.
        calibration: Images to calibrate int8 quantisation with (default: float32). The last
            convolutions are never quantised.
        overwrite: Whether to replace existing files.

    Returns:
        Path of the file.

    Raises:
        WeightsError: An extra is not installed, the weights cannot be read or exported, or ``out``
            has another suffix.
        FileExistsError: The file exists.
    """
    weights, int8 = Path(weights), calibration is not None
    suffix, module, opset = _RUNTIMES[to]
    out = Path(out or weights.with_name(f"{weights.stem}{'-int8' if int8 else ''}{suffix}"))
    if out.suffix != suffix:
        raise WeightsError(f"{out}: a file for {to} ends with {suffix}")
    for file in (out, out.with_suffix(".bin")) if to == "openvino" else (out,):
        if os.path.lexists(file) and not overwrite:
            raise FileExistsError(f"{file}: already exists; choose another, or add --overwrite")
    for name in ("onnx", "onnxscript", module, *["nncf"] * (int8 and to == "openvino")):
        import_extra(name, to)
    model = load_model(weights)
    if getattr(model, "oracle", None) is not None or "exported" in model.recipe:
        raise WeightsError(
            f"{weights}: is exported already, or needs true masks; give other weights"
        )
    network = _Network(model).eval()
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()

    def read(file: Path) -> np.ndarray:
        image = model.preprocessor.resized(as_array(read_image(file)))
        return model.preprocessor([image]).images.numpy()

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        plain = Path(folder) / "network.onnx"
        _write_onnx(network, plain, opset=opset)
        exported = {"runtime": to, "int8": int8, "weights": digest, "stride": network.stride}
        replace_network(model, nn.Identity())
        metadata = {
            "b2inst": json.dumps(model_card(weights) | {"exported": exported}),
            "b2inst_weights": base64.b64encode(safetensors.torch.save(model.state_dict())).decode(),
        }
        finish = _finish_onnx if to == "onnx" else _finish_openvino
        for made in finish(plain, metadata, calibration, read):
            made.replace(out.with_suffix(made.suffix))
    return out


def calibration_files(data: str, *, most: int) -> list[Path]:
    """Select evenly spaced images to calibrate on.

    Args:
        data: Folder of images, or ``FOLDER`` or ``FOLDER:SPLIT`` in COCO format (default split:
            "train").
        most: Largest number of images.

    Raises:
        DataError: There is no such folder or split, or no image in it.
    """
    folder, _, split = (data, "", "") if Path(data).is_dir() else data.rpartition(":")
    root = Path(folder or data)
    try:
        annotated = bool(split or find_splits(root))
    except DataError:  # annotations are optional
        annotated = False
    if annotated:
        annotations, image_dir = find_split(root, split or "train")
        images = [record.path for record in CocoIndex.load(annotations, image_dir).images]
    else:
        images = walk_images(root)
    if not images:
        raise DataError(f"{data}: no images to calibrate on; give a folder that has some")
    count = min(most, len(images))
    return [images[i * len(images) // count] for i in range(count)]


class _Network(nn.Module):
    """The exported part of a model; ``names`` of its outputs are known after the first call."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        norms = (nn.BatchNorm2d, FrozenBatchNorm2d)
        for parent in list(self.model.modules()):
            for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, norms):
                    setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, norm_name, nn.Identity())
        self.names: list[str] = []
        self.stride: float | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        model = self.model
        named: dict[str, Tensor] = {}
        if not isinstance(model, BasisSegmenter):
            features = model.backbone(images)
        else:
            features, outputs, bases = model.network(images)
            scorer = model.scoring_head
            needed = () if scorer is None else scorer.pooler.strides
            features = {stride: features[stride] for stride in needed}
            for name, value in vars(outputs).items():
                if isinstance(value, list):
                    named |= {f"head.{name}.{i}": level for i, level in enumerate(value)}
                else:
                    named[f"head.{name}"] = value
            named["bases.maps"] = bases.maps
            if bases.boundary_logits is not None:
                named["bases.boundary_logits"] = bases.boundary_logits
            self.stride = bases.stride
        named = {f"features.{stride}": level for stride, level in features.items()} | named
        self.names = list(named)
        return list(named.values())


def _last_convolutions(nodes: Iterable[tuple[str, bool, list[str], list[str]]]) -> list[str]:
    """The convolutions that no other convolution follows, which predict.

    Nodes are in topological order: name, whether a convolution, names of inputs and outputs.
    """
    before: set[str] = set()  # tensors on which the input of a convolution depends
    last = []
    for name, convolution, inputs, outputs in reversed(list(nodes)):
        followed = not before.isdisjoint(outputs)
        if convolution and not followed:
            last.append(name)
        if convolution or followed:
            before.update(inputs)
    return last


def _write_onnx(network: _Network, path: Path, *, opset: int) -> None:
    size = network.model.preprocessor.fixed_size
    # No side of a level is 1, which would be taken for a constant.
    example = torch.zeros(2, 3, *(size or (256, 384)))
    varying = dict.fromkeys((0,) if size else (0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.inference_mode():
        network(example)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes={"images": varying},
        input_names=["images"],
        output_names=network.names,
        opset_version=opset,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def _finish_onnx(
    plain: Path, metadata: dict[str, str], calibration: Sequence[Path] | None, read: _Read
) -> list[Path]:
    import onnx

    if calibration is not None:
        from onnxruntime.quantization import quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        quant_pre_process(plain, plain, skip_optimization=True, skip_symbolic_shape=True)
        nodes = (
            (node.name, node.op_type == "Conv", list(node.input), list(node.output))
            for node in onnx.load(plain).graph.node
        )
        images = ({"images": read(file)} for file in calibration)
        quantize_static(
            plain,
            plain,
            SimpleNamespace(get_next=lambda: next(images, None)),
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_last_convolutions(nodes),
        )
    model = onnx.load(plain)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, plain)
    return [plain]


def _finish_openvino(
    plain: Path, metadata: dict[str, str], calibration: Sequence[Path] | None, read: _Read
) -> list[Path]:
    import openvino

    model = openvino.Core().read_model(plain)
    if calibration is not None:
        nncf = import_extra("nncf", "openvino")
        nodes = (
            (
                node.get_friendly_name(),
                node.get_type_name() in ("Convolution", "GroupConvolution"),
                [value.get_node().get_friendly_name() for value in node.input_values()],
                [node.get_friendly_name()],
            )
            for node in model.get_ordered_ops()
        )
        ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet
        model = nncf.quantize(
            model,
            nncf.Dataset(calibration, read),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            # By default, ranges are averaged over images, which clips unusual ones.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.MINMAX
            ),
            ignored_scope=nncf.IgnoredScope(names=_last_convolutions(nodes)),
        )
    for key, value in metadata.items():
        model.set_rt_info(value, key)
    xml = plain.with_suffix(".xml")
    openvino.save_model(model, xml, compress_to_fp16=False)
    return [xml.with_suffix(".bin"), xml]  # the file with the name of the model last
