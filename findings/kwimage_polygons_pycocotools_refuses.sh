#!/usr/bin/env bash
# kwimage, which kwcoco uses, has two styles of COCO polygons for masks. The default refuses masks with
# holes; what the style "new" writes, polygons of exterior and interiors, pycocotools refuses. Exits 1 if
# that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11 kwimage==0.12.0 opencv-python-headless==4.14.0.94
cat > show.py <<'PY'
from importlib.metadata import version

import kwimage
import numpy as np
from pycocotools import mask

ring = np.zeros((48, 64), np.uint8)
ring[5:35, 5:35], ring[15:25, 15:25] = 1, 0
polygons = kwimage.Mask(ring, "c_mask").to_multi_polygon()
segmentation = polygons.to_coco(style="new")


def message(call):
    """The text of the error that a call raises."""
    try:
        call()
    except Exception as error:
        return str(error)
    return None


read = message(lambda: mask.frPyObjects(segmentation, 48, 64))
written = message(lambda: polygons.to_coco())
print(f"kwimage {version('kwimage')}: keys {[sorted(part) for part in segmentation]}; "
      f"pycocotools {version('pycocotools')}: {read!r}; default style: {written!r}")
assert [sorted(part) for part in segmentation] == [["exterior", "interiors"]]
assert read == "input type is not supported."
assert written == "Original coco does not support holes"
PY
venv/bin/python show.py
