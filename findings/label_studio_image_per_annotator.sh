#!/usr/bin/env bash
# Label Studio's COCO export of an image that two people have labelled has the image twice, with two ids
# and one file name, and each person's objects in one of them: a split by image id has it on both sides,
# and training sees it as two images. Its YOLO export of the same file keeps one person's objects, the
# last one's. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check label-studio-sdk==2.1.2
cat > show.py <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter
from PIL import Image

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="label" toName="image"><Label value="cell"/></PolygonLabels>
</View>
"""
Path("images").mkdir()
Image.new("RGB", (200, 100)).save("images/a.png")


def annotation(person, corners):
    """What one person has drawn: squares, in percent of the image."""
    results = [
        {
            "id": f"{person}{k}", "type": "polygonlabels", "from_name": "label", "to_name": "image",
            "original_width": 200, "original_height": 100, "image_rotation": 0,
            "value": {"points": [[x, x], [x + 20, x], [x + 20, x + 20], [x, x + 20]], "closed": True,
                      "polygonlabels": ["cell"]},
        }
        for k, x in enumerate(corners)
    ]
    return {"id": person, "completed_by": person, "was_cancelled": False, "result": results}


people = [annotation(1, [10, 40, 70]), annotation(2, [11, 41])]
tasks = [{"id": 1, "data": {"image": "images/a.png"}, "annotations": people}]
Path("tasks.json").write_text(json.dumps(tasks))
converter = Converter(CONFIG, ".", download_resources=False)
converter.convert("tasks.json", "coco", "COCO", is_dir=False)
converter.convert("tasks.json", "yolo", "YOLO", is_dir=False)
content = json.loads(Path("coco/result.json").read_text())
images = [(image["id"], image["file_name"]) for image in content["images"]]
owners = [a["image_id"] for a in content["annotations"]]
(file,) = Path("yolo/labels").glob("*.txt")
lines = file.read_text().splitlines()
print(f"label-studio-sdk {version('label-studio-sdk')}: COCO has images {images}, objects of images "
      f"{owners}; YOLO has one file of {len(lines)} lines, the first {lines[0]!r}")
assert images == [(0, "images/a.png"), (1, "images/a.png")]
assert owners == [0, 0, 0, 1, 1]
assert len(lines) == 2
assert lines[0].startswith("0 0.11 ")
PY
venv/bin/python show.py
