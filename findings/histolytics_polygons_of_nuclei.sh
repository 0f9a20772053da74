#!/usr/bin/env bash
# histolytics 0.3.0 makes polygons of label maps of nuclei (inst2gdf) and of tissue (sem2gdf). By default each outline
# goes through uniform_smooth, the mean of ten corners in a row, whose ends do not meet, and whose corners are few where
# the outline is straight: a disc of radius 6 keeps 82 % of its area, one of radius 4 72 %, and a rectangle of 30×50
# pixels nothing. It leaves out holes too: stroma of 50,600 pixels around a nest of 20,081 has an area of 70,560, nest
# included, and drawn again by gdf2sem the nest is gone if the stroma comes last. And where types leave no background,
# as in a crop of a confluent tissue, all nuclei of the first type are missing. With smooth_func=None and background,
# all pixels come back. The documentation says that smoothing is the default, and none of this; nothing is said. Exits 1
# if that changes.
# Without the dependencies that these functions do not use.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==1.26.4 scipy==1.17.1 shapely==2.2.0 rasterio==1.4.4 \
  geopandas==1.1.4
venv/bin/pip install -q --disable-pip-version-check --no-deps histolytics==0.3.0
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from histolytics.utils.raster import gdf2inst, gdf2sem, inst2gdf, sem2gdf

warnings.simplefilter("error")
print(f"histolytics {version('histolytics')}, rasterio {version('rasterio')}, shapely {version('shapely')}")
rows, columns = np.mgrid[:400, :400]
distance = np.hypot(rows - 200, columns - 200)

shapes = {f"disc of radius {r}": distance <= r for r in (4, 6, 10, 20)}
shapes["rectangle of 30×50"] = (abs(rows - 199.5) < 15) & (abs(columns - 199.5) < 25)
kept = {}
for name, mask in shapes.items():
    labels = mask.astype(np.int32)
    polygons, exact = inst2gdf(labels), inst2gdf(labels, smooth_func=None)
    drawn = gdf2inst(polygons, id_col="uid", width=400, height=400) > 0
    iou = (drawn & mask).sum() / (drawn | mask).sum()
    kept[name] = [round(float(polygons.area.sum() / mask.sum()), 2), round(float(iou), 2)]
    print(f"   {name}: {mask.sum()} pixels, the polygon's area is {polygons.area.sum():.0f} ({kept[name][0]:.2f} of "
          f"it), drawn again it has an IoU of {iou:.2f}; without smoothing {exact.area.sum():.0f}")
    assert exact.area.sum() == mask.sum()
    assert (gdf2inst(exact, id_col="uid", width=400, height=400) == labels).all()
assert kept == {"disc of radius 4": [0.72, 0.76], "disc of radius 6": [0.82, 0.81], "disc of radius 10": [0.91, 0.91],
                "disc of radius 20": [0.97, 0.97], "rectangle of 30×50": [0.0, 0.0]}

tissue = (distance <= 150).astype(np.uint8)  # stroma, 1, around a nest, 2
tissue[distance <= 80] = 2
names = {1: "stroma", 2: "nest"}
codes = {"stroma": 1, "nest": 2}
counts = [int((tissue == k).sum()) for k in (1, 2)]
areas, drawn = {}, {}
for smoothing in ("default", "none"):
    options = {} if smoothing == "default" else {"smooth_func": None}
    frame = sem2gdf(tissue, class_dict=names, **options)
    areas[smoothing] = [round(float(frame.area[frame.class_name == n].sum())) for n in codes]
    for last in codes:
        ordered = frame.sort_values("class_name", key=lambda names: names == last)
        again = gdf2sem(ordered, class_dict=codes, width=400, height=400)
        drawn[smoothing, last] = [int((again == k).sum()) for k in (1, 2)]
        print(f"   stroma and nest, {counts} pixels, smoothing {smoothing}: areas {areas[smoothing]}, "
              f"drawn again, {last} last: {drawn[smoothing, last]}")
        assert smoothing == "default" or (again == tissue).all()
assert areas == {"default": [70560, 19996], "none": counts}
assert drawn["default", "nest"] == [50570, 20015] and drawn["default", "stroma"] == [70585, 0]

nuclei = np.arange(1, 101, dtype=np.int32).reshape(10, 10).repeat(10, 0).repeat(10, 1)
types = np.full((100, 100), 1)
types[:, 50:] = 2
found = {}
for background in (False, True):
    margin = int(background)
    frame = inst2gdf(np.pad(nuclei, margin), np.pad(types, margin), smooth_func=None)
    found[background] = {k: int((frame.class_name == k).sum()) for k in (1, 2)}
    print(f"   50 nuclei of type 1 and 50 of type 2, background {background}: polygons by type {found[background]}")
assert found == {False: {1: 0, 2: 50}, True: {1: 50, 2: 50}}
PY
venv/bin/python show.py
