"""COCO-format data: reading, checking and downloading; procedural scenes; training batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.data.check import check_coco as check_coco
    from b2inst.data.check import verify_images as verify_images
    from b2inst.data.coco import CocoIndex as CocoIndex
    from b2inst.data.coco import hold_out as hold_out
    from b2inst.data.coco_fetch import fetch_coco as fetch_coco
    from b2inst.data.dataset import CocoDataset as CocoDataset
    from b2inst.data.dataset import collate as collate
    from b2inst.data.dataset import eval_images as eval_images
    from b2inst.data.dataset import train_loader as train_loader
    from b2inst.data.images import ImageRecord as ImageRecord
    from b2inst.data.images import read_image as read_image
    from b2inst.data.label_maps import convert_label_maps as convert_label_maps
    from b2inst.data.layout import find_split as find_split
    from b2inst.data.layout import find_splits as find_splits
    from b2inst.data.nuclei import fetch_nuclei as fetch_nuclei
    from b2inst.data.scenes import SCENE_CLASSES as SCENE_CLASSES
    from b2inst.data.scenes import SCENES_VERSION as SCENES_VERSION
    from b2inst.data.scenes import make_scene as make_scene
    from b2inst.data.scenes import write_scenes as write_scenes
    from b2inst.data.segmentation import Annotation as Annotation
    from b2inst.data.transforms import train_transforms as train_transforms
    from b2inst.data.wording import DataError as DataError
    from b2inst.data.yolo import convert_yolo as convert_yolo

__getattr__, __dir__ = lazy_names(__name__, __file__)
