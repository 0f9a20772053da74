#!/usr/bin/env bash
# sahi's YOLO export writes COCO's category ids as class numbers, beside a list of names that YOLO counts
# from 0. Of a COCO file with the usual ids 1, 2, 3, what was a dog is then a cat, what was a cat an ant, and
# an ant has no name; crowd regions are objects like others. Ids from 0 on without gaps are right. Nothing
# is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pyyaml==6.0.3 sahi==0.12.8
cat > show.py <<'PY'
import json
from importlib.metadata import version
from pathlib import Path

import yaml
from PIL import Image
from sahi.utils.coco import Coco

Path("images").mkdir()
Image.new("RGB", (80, 60)).save("images/a.png")


def exported(first_id):
    """Names of the objects from left to right, as YOLO reads them."""
    names = ["dog", "cat", "ant"]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [
            {"id": first_id + k, "name": name, "supercategory": ""} for k, name in enumerate(names)
        ],
        "annotations": [
            {"id": 1 + k, "image_id": 1, "category_id": first_id + k, "iscrowd": 0, "area": 100,
             "bbox": [5 + 20 * k, 5, 10, 10],
             "segmentation": [[5 + 20 * k, 5, 15 + 20 * k, 5, 15 + 20 * k, 15, 5 + 20 * k, 15]]}
            for k in range(3)
        ],
    }
    Path("gt.json").write_text(json.dumps(content))
    folder = Path(f"yolo_{first_id}")
    Coco.from_coco_dict_or_path("gt.json", image_dir="images").export_as_yolo(folder, train_split_rate=1)
    read = yaml.safe_load((folder / "data.yml").read_text())["names"]
    lines = [line.split() for line in (folder / "train/a.txt").read_text().splitlines()]
    numbers = [int(line[0]) for line in sorted(lines, key=lambda line: float(line[1]))]
    return [read[n] if n < len(read) else f"number {n}" for n in numbers]


found = {first_id: exported(first_id) for first_id in (0, 1)}
for first_id, names in found.items():
    print(f"sahi {version('sahi')}, ids from {first_id} on: a dog, a cat and an ant are {names}")
assert found == {0: ["dog", "cat", "ant"], 1: ["cat", "ant", "number 3"]}
PY
venv/bin/python show.py
