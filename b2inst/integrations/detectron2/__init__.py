"""Our models in detectron2: its trainer, predictor, evaluators and visualiser work unchanged.

Importing this registers the meta-architecture ``B2InstSegmenter``; see ``docs/detectron2.md``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.file_io import PathManager
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from b2inst import structures
from b2inst.data.transforms import ResizeTo
from b2inst.models import Segmenter, create_model
from b2inst.structures import Targets
from b2inst.weights import load_model, start_from


@META_ARCH_REGISTRY.register()
class B2InstSegmenter(nn.Module):
    """A segmenter with detectron2's channel order, ground truth and results.

    Args:
        segmenter: Any of ours. A model of one fixed size resizes its input itself.
        input_format: Order of the channels of the images that come in, "BGR" or "RGB".
    """

    @configurable  # type: ignore[untyped-decorator]
    def __init__(self, *, segmenter: Segmenter, input_format: str = "BGR") -> None:
        super().__init__()
        if input_format not in ("BGR", "RGB"):
            raise ValueError(f"INPUT.FORMAT is {input_format!r}; our models take BGR or RGB")
        self.segmenter = segmenter
        self.input_format = input_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments as a config has them.

        With MODEL.WEIGHTS, a finished model's that detectron2 loads afterwards, no others are
        fetched.

        Raises:
            ValueError: An unknown name or option, with the known ones.
            WeightsError: ``START`` cannot be read or is of another backbone.
        """
        node = cfg.MODEL.B2INST
        options = yaml.safe_load(node.OPTIONS.dump())
        if cfg.MODEL.WEIGHTS and options.pop("backbone_weights", None) is not None:
            options.setdefault("frozen_norm", True)  # as with the weights that it was trained from
        names = tuple(node.CLASS_NAMES) or None
        model = create_model(node.NAME, num_classes=node.NUM_CLASSES, class_names=names, **options)
        if node.START and not cfg.MODEL.WEIGHTS:
            start_from(model, PathManager.get_local_path(node.START))
        return {"segmenter": model.train(), "input_format": cfg.INPUT.FORMAT}

    @property
    def device(self) -> torch.device:
        return self.segmenter.preprocessor.mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses by name while training, else ``{"instances": Instances}`` for each image.

        These have the size that each input asks for. ``scores`` is the ranking score; its factors
        are ``class_scores``, ``iou_scores`` and ``boundary_scores``, where predicted.

        Args:
            batched_inputs: Dicts of detectron2's mapper: ``image`` (3×h×w, 0 to 255), in training
                ``instances``, else ``height`` and ``width`` of the wanted masks (default: the
                image's own).

        Raises:
            ValueError: Training with a class that the model does not have.
        """
        if self.training:
            samples = [self._sample(entry) for entry in batched_inputs]
            targets = [targets.to(self.device) for _, targets in samples]
            return self.segmenter([image for image, _ in samples], targets)
        images = [self._rgb(entry["image"]) for entry in batched_inputs]
        sizes = [
            (entry.get("height", image.shape[1]), entry.get("width", image.shape[2]))
            for entry, image in zip(batched_inputs, images, strict=True)
        ]
        results = self.segmenter.segment([self._resized(image) for image in images], sizes)
        return [
            {"instances": _to_detectron2(instances, size)}
            for instances, size in zip(results, sizes, strict=True)
        ]

    def _rgb(self, image: Tensor) -> Tensor:
        return image.flip(0) if self.input_format == "BGR" else image

    def _resized(self, image: Tensor) -> Tensor:
        preprocessor = self.segmenter.preprocessor
        if preprocessor.fixed_size in (None, image.shape[1:]):
            return image
        return preprocessor.resized(_whole(image).permute(1, 2, 0).numpy())

    def _sample(self, entry: dict[str, Any]) -> tuple[Tensor, Targets]:
        image, targets = self._rgb(entry["image"]), _to_targets(entry["instances"])
        classes = self.segmenter.recipe["num_classes"]
        if (targets.labels >= classes).any():
            highest = int(targets.labels.max())
            name = entry.get("file_name", "an input")
            raise ValueError(f"{name} has class {highest}: set MODEL.B2INST.NUM_CLASSES above it")
        size = self.segmenter.preprocessor.fixed_size
        if size not in (None, image.shape[1:]):
            image, targets = _resized_to(size, _whole(image), targets)
        masks, boxes = targets.masks, targets.boxes
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & masks.flatten(1).any(dim=1).bool()
        labels = targets.labels[keep]
        return image, replace(targets, boxes=boxes[keep], labels=labels, masks=masks[keep])


def _whole(image: Tensor) -> Tensor:
    """As uint8, in which detectron2's images come or could."""
    return image.cpu().float().round().clamp(0, 255).byte()


def _to_detectron2(instances: structures.Instances, size: tuple[int, int]) -> Instances:
    names = {"boxes": "pred_boxes", "labels": "pred_classes", "masks": "pred_masks"}
    fields = {names.get(name, name): value for name, value in vars(instances).items()}
    # Clones, because detectron2 changes results in place, which inference mode's tensors forbid.
    own = {name: v.clone() for name, v in fields.items() if isinstance(v, Tensor)}
    return Instances(size, **own | {"pred_boxes": Boxes(own["pred_boxes"])})


def _to_targets(instances: Instances) -> Targets:
    """Ground truth of one image, at the size of the instances' image.

    The semantic map has later instances on top, as in our data sets, but no crowds, which
    detectron2's mapper drops.
    """
    masks = torch.zeros((0, *instances.image_size), dtype=torch.bool)
    if len(instances):
        bitmaps = instances.gt_masks
        if isinstance(bitmaps, PolygonMasks):
            bitmaps = BitMasks.from_polygon_masks(bitmaps, *instances.image_size)
        masks = bitmaps.tensor.bool()
    labels = instances.gt_classes
    semantic = torch.zeros(instances.image_size, dtype=torch.int32, device=masks.device)
    for mask, label in zip(masks, labels.tolist(), strict=True):
        semantic[mask] = label + 1
    boxes = instances.gt_boxes.tensor.float()
    return Targets(0, boxes, labels, masks.to(torch.uint8), semantic)


def _resized_to(size: tuple[int, int], image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """An image (3×H×W uint8 RGB) and its targets, squeezed to the one size that a model takes."""
    xyxy, canvas = tv_tensors.BoundingBoxFormat.XYXY, tuple(image.shape[1:])
    shapes = {
        "boxes": tv_tensors.BoundingBoxes(targets.boxes, format=xyxy, canvas_size=canvas),
        "masks": tv_tensors.Mask(targets.masks),
        "semantic": tv_tensors.Mask(targets.semantic),
    }
    picture, shapes = ResizeTo(size)(Image.fromarray(image.permute(1, 2, 0).numpy()), shapes)
    plain = {name: shape.as_subclass(Tensor) for name, shape in shapes.items()}
    return F.pil_to_tensor(picture), replace(targets, **plain)


def add_b2inst_config(cfg: CfgNode) -> None:
    """Add the keys of ``MODEL.B2INST``. Pixel statistics are the model's own, not the config's."""
    cfg.MODEL.B2INST = CfgNode()
    cfg.MODEL.B2INST.NAME = "b2inst-blendmask-r50"  # of b2inst.create_model
    cfg.MODEL.B2INST.NUM_CLASSES = 80
    cfg.MODEL.B2INST.CLASS_NAMES = []  # carried along to b2inst.save_model; may be left out
    cfg.MODEL.B2INST.OPTIONS = CfgNode(new_allowed=True)  # of b2inst.create_model
    # Weights to start a training from: ours, of a baseline too, or detectron2's R-50.pkl.
    cfg.MODEL.B2INST.START = ""


def config_file(name: str) -> str:
    """Path of a config that comes with the package, for ``cfg.merge_from_file``."""
    return str(Path(__file__).parent / "configs" / f"{name}.yaml")


def export(weights: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write a weights file as ``model.pth`` and ``config.yaml`` into a folder.

    Returns:
        Path of the config, which ``cfg.merge_from_file`` reads: the model, its class names and its
        test size, all that ``DefaultPredictor`` needs.

    Raises:
        WeightsError: A missing or damaged file, or one that is not ours.
    """
    model = load_model(weights)
    checkpoint, config = Path(folder, "model.pth"), Path(folder, "config.yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    state = {f"segmenter.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": state}, checkpoint)
    sizes = {"MIN_SIZE_TRAIN": [0], "MIN_SIZE_TEST": 0}  # the model itself squeezes images
    if model.preprocessor.fixed_size is None:
        shorter, longer = model.preprocessor.shorter, model.preprocessor.longer_max
        sizes = {"MIN_SIZE_TRAIN": [shorter], "MAX_SIZE_TRAIN": longer}
        sizes |= {"MIN_SIZE_TEST": shorter, "MAX_SIZE_TEST": longer}
    own = {
        "NAME": model.recipe["name"],
        "NUM_CLASSES": model.recipe["num_classes"],
        "CLASS_NAMES": list(model.class_names or ()),
        "OPTIONS": model.recipe["options"],
    }
    node = {"META_ARCHITECTURE": "B2InstSegmenter", "MASK_ON": True, "B2INST": own}
    content = {"VERSION": 2, "MODEL": node | {"WEIGHTS": str(checkpoint)}, "INPUT": sizes}
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config
