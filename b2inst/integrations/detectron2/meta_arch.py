"""A segmenter with the interface of detectron2's models."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from b2inst import structures
from b2inst.integrations.detectron2.config import build_segmenter
from b2inst.integrations.detectron2.targets import resized_to, to_targets, without_empty
from b2inst.models import Segmenter
from b2inst.structures import Targets


@META_ARCH_REGISTRY.register()
class B2InstSegmenter(nn.Module):
    """A segmenter with detectron2's channel order, ground truth and results.

    Args:
        segmenter: any of ours. A model of one fixed size resizes its input itself.
        input_format: order of the channels of the images that come in, "BGR" or "RGB".
    """

    @configurable
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
            batched_inputs: dicts of detectron2's mapper: ``image`` (3×h×w, 0 to 255), in training
                ``instances``, else ``height`` and ``width`` of the wanted masks (default: the
                image's own).

        Raises:
            ValueError: training without ``instances`` or masks, or with a class that the model
                does not have.
        """
        if not self.training:
            return self.inference(batched_inputs)
        samples = [self._sample(entry) for entry in batched_inputs]
        images = [image for image, _ in samples]
        return self.segmenter(images, [targets.to(self.device) for _, targets in samples])

    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Predicted instances, at the size that each input asks for."""
        images = [self._rgb(entry["image"]) for entry in batched_inputs]
        sizes = [
            (entry.get("height", image.shape[1]), entry.get("width", image.shape[2]))
            for entry, image in zip(batched_inputs, images, strict=True)
        ]
        results = self.segmenter.segment([self._resized(image) for image in images], sizes)
        return [
            {"instances": to_detectron2(instances, size)}
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
        if "instances" not in entry:
            raise ValueError(
                f"no instances to train on in {entry.get('file_name', 'an input')}: give the "
                "mapper annotated data and is_train=True"
            )
        image, targets = self._rgb(entry["image"]), to_targets(entry["instances"])
        classes = self.segmenter.recipe.get("num_classes")
        if classes is not None and len(targets) and int(targets.labels.max()) >= classes:
            raise ValueError(
                f"{entry.get('file_name', 'an input')} has class {int(targets.labels.max())}, but "
                f"the model knows {classes}, from 0: set MODEL.B2INST.NUM_CLASSES"
            )
        size = self.segmenter.preprocessor.fixed_size
        if size not in (None, image.shape[1:]):
            image, targets = resized_to(size, _whole(image), targets)
        return image, without_empty(targets)


def _whole(image: Tensor) -> Tensor:
    """As uint8, in which detectron2's images come or could."""
    return image.cpu().float().round().clamp(0, 255).byte()


def to_detectron2(instances: structures.Instances, size: tuple[int, int]) -> Instances:
    """Our instances as detectron2's: ``scores`` is the ranking score, ``pred_masks`` N×H×W bool.

    The factors of the score are ``class_scores``, ``iou_scores``, ``boundary_scores``, where
    predicted.
    """
    names = {"boxes": "pred_boxes", "labels": "pred_classes", "masks": "pred_masks"}
    fields = {names.get(name, name): value for name, value in vars(instances).items()}
    # Clones, because detectron2 changes results in place, which inference mode's tensors forbid.
    own = {name: v.clone() for name, v in fields.items() if isinstance(v, Tensor)}
    return Instances(size, **own | {"pred_boxes": Boxes(own["pred_boxes"])})
