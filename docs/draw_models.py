"""Draw docs/figures/models.png, the diagrams of docs/models.md, from the models themselves."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from b2inst.models import BasisSegmenter, create_model
from b2inst.viz.diagram import diagram_figure

NAMES = (
    "blendmask-r50",
    "b2inst-blendmask-r50",
    "gated-blendmask-r50",
    "yolact-r50",
    "b2inst-yolact-r50",
    "b2inst-condinst-r50",
)


def main() -> None:
    models: dict[str, BasisSegmenter] = {}
    for name in NAMES:
        model = create_model(name, num_classes=80)
        assert isinstance(model, BasisSegmenter)
        models[name] = model
    path = Path(__file__).parent / "figures" / "models.png"
    diagram_figure(models).savefig(path, dpi=130, metadata={"Software": None})
    Image.open(path).quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
