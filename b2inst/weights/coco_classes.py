"""The 80 categories of COCO 2017, in the order of their labels."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

#: By category id of COCO's annotation files, which has gaps.
_CATEGORIES: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
_NONE = ("__background__", "N/A")

COCO_CATEGORY_IDS = tuple(i for i, name in enumerate(_CATEGORIES) if name not in _NONE)
COCO_CLASS_NAMES = tuple(name for name in _CATEGORIES if name not in _NONE)
