"""A segmenter with the interface of detectron2's models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from b2inst import structures
from b2inst.data.transforms import ResizeTo
from b2inst.integrations.detectron2.config import build_segmenter
from b2inst.models import Segmenter
from b2inst.structures import Targets


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
        """The arguments as a config has them."""
        return {"segmenter": build_segmenter(cfg), "input_format": cfg.INPUT.FORMAT}

    @property
    def device(self) -> torch.device:
        return self.segmenter.preprocessor.mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses by name while training, else ``{"instances": Instances}`` for each image.

        Args:
            batched_inputs: Dicts of detectron2's mapper: ``image`` (3×h×w, 0 to 255), in training
                ``instances``, else ``height`` and ``width`` of the wanted masks (default: the
                image's own).

        Raises:
            ValueError: Training without ``instances`` or masks, or with a class that the model
                does not have.
        """
        if not self.training:
            return self.inference(batched_inputs)
        samples = [self._sample(entry) for entry in batched_inputs]
        images = [image for image, _ in samples]
        return self.segmenter(images, [targets.to(self.device) for _, targets in samples])

    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Predicted instances, at the size that each input asks for.

        ``scores`` is the ranking score; its factors are ``class_scores``, ``iou_scores`` and
        ``boundary_scores``, where predicted.
        """
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
        name = entry.get("file_name", "an input")
        if "instances" not in entry:
            raise ValueError(
                f"no instances to train on in {name}: give the mapper annotated data and "
                "is_train=True"
            )
        image, targets = self._rgb(entry["image"]), _to_targets(entry["instances"])
        classes = self.segmenter.recipe.get("num_classes")
        if classes is not None and len(targets) and int(targets.labels.max()) >= classes:
            raise ValueError(
                f"{name} has class {int(targets.labels.max())}, but the model knows {classes}, "
                "from 0: set MODEL.B2INST.NUM_CLASSES"
            )
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
        if not instances.has("gt_masks"):
            raise ValueError(
                "objects without gt_masks: set MODEL.MASK_ON to True, and train on data with masks"
            )
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
