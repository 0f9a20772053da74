#!/usr/bin/env bash
# Label Studio's import of a COCO file makes a rectangle of each object's box and a polygon of each of its
# pieces, with nothing that says they belong together. Exported again, as COCO or as YOLO, each is an object:
# two objects, one of them in two pieces, become five, of which two are boxes without a mask. Of that it says
# nothing: the one warning is that segmentation is experimental. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 label-studio-sdk==2.1.2
cat > show.py <<'PY'
import contextlib
import io
import json
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
from PIL import Image

WIDTH, HEIGHT = 200, 100


def square(x):
    """A polygon of 20×20 pixels."""
    return [x, 10, x + 20, 10, x + 20, 30, x, 30]


Path("images").mkdir()
Image.new("RGB", (WIDTH, HEIGHT)).save("images/a.png")
common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
objects = [
    common | {"id": 1, "bbox": [10, 10, 20, 20], "area": 400, "segmentation": [square(10)]},
    common | {"id": 2, "bbox": [50, 10, 60, 20], "area": 800, "segmentation": [square(50), square(90)]},
]
Path("gt.json").write_text(json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": objects,
}))
with contextlib.redirect_stdout(io.StringIO()):  # what to do next, for a person
    convert_coco_to_ls("gt.json", "tasks.json", image_root_url="images")

# Label Studio numbers tasks and annotations when it takes them in; all else stays as it is.
tasks = json.loads(Path("tasks.json").read_text())
tasks[0]["id"] = tasks[0]["annotations"][0]["id"] = 1
kinds = [result["type"] for result in tasks[0]["annotations"][0]["result"]]
Path("tasks.json").write_text(json.dumps(tasks))
converter = Converter(Path("tasks.label_config.xml").read_text(), ".", download_resources=False)
converter.convert("tasks.json", "coco", "COCO", is_dir=False)
converter.convert("tasks.json", "yolo", "YOLO", is_dir=False)
after = json.loads(Path("coco/result.json").read_text())["annotations"]
lines = Path("yolo/labels/a.txt").read_text().splitlines()
print(f"label-studio-sdk {version('label-studio-sdk')}: {len(objects)} objects; imported {kinds}; exported "
      f"as YOLO {len(lines)} lines, as COCO {len(after)} objects:")
for annotation in after:
    print("   box", [round(v) for v in annotation["bbox"]], "polygons", len(annotation["segmentation"]))
assert sorted(kinds) == ["polygonlabels"] * 3 + ["rectanglelabels"] * 2
assert len(lines) == len(after) == 5
assert sorted(len(a["segmentation"]) for a in after) == [0, 0, 1, 1, 1]
assert len({a["id"] for a in after}) == 5
PY
venv/bin/python show.py
