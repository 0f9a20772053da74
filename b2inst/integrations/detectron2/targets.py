"""detectron2's ground truth as ours."""

from __future__ import annotations

from dataclasses import replace

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from b2inst.data.transforms import ResizeTo
from b2inst.structures import Targets


def to_targets(instances: Instances, *, image_id: int = 0) -> Targets:
    """Ground truth of one image, at the size of the instances' image.

    The semantic map has later instances on top, as in our data sets, but no crowds, which
    detectron2's mapper drops.

    Args:
        instances: with ``gt_boxes``, ``gt_classes`` and ``gt_masks`` (PolygonMasks or BitMasks), of
            which images without objects may lack the last.

    Raises:
        ValueError: objects without masks.
    """
    masks = _bitmaps(instances)
    labels = instances.gt_classes
    semantic = torch.zeros(instances.image_size, dtype=torch.int32, device=masks.device)
    for mask, label in zip(masks, labels.tolist(), strict=True):
        semantic[mask] = label + 1
    return Targets(
        image_id=image_id,
        boxes=instances.gt_boxes.tensor.float(),
        labels=labels,
        masks=masks.to(torch.uint8),
        semantic=semantic,
    )


def _bitmaps(instances: Instances) -> Tensor:
    """N×H×W bool."""
    if not len(instances):
        return torch.zeros((0, *instances.image_size), dtype=torch.bool)
    if not instances.has("gt_masks"):
        raise ValueError(
            "objects without gt_masks: set MODEL.MASK_ON to True, and train on data with masks"
        )
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor.bool()


def resized_to(size: tuple[int, int], image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """An image (3×H×W uint8 RGB) and its targets, squeezed to the one size that a model takes."""
    height, width = image.shape[1:]
    xyxy = tv_tensors.BoundingBoxFormat.XYXY
    shapes = {
        "boxes": tv_tensors.BoundingBoxes(targets.boxes, format=xyxy, canvas_size=(height, width)),
        "masks": tv_tensors.Mask(targets.masks),
        "semantic": tv_tensors.Mask(targets.semantic),
    }
    picture, shapes = ResizeTo(size)(Image.fromarray(image.permute(1, 2, 0).numpy()), shapes)
    plain = {name: shape.as_subclass(Tensor) for name, shape in shapes.items()}
    return F.pil_to_tensor(picture), replace(targets, **plain)


def without_empty(targets: Targets) -> Targets:
    """Targets without the objects whose box or mask is empty."""
    boxes, labels, masks = targets.boxes, targets.labels, targets.masks
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & masks.flatten(1).any(dim=1).bool()
    return replace(targets, boxes=boxes[keep], labels=labels[keep], masks=masks[keep])
