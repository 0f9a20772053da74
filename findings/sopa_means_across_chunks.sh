#!/usr/bin/env bash
# sopa 2.2.11 measures the channels of an image in each cell (aggregate_channels), chunk by chunk of the image. Of a cell
# that two chunks share it puts the mask's first corner at the first corner of the second chunk, so that there it
# measures beside the cell: of cells of 100 on 0 those across a border have a mean of 90 or 94 and a minimum of 0, and
# a cell of 10 beside one of 1000 a mean of 20 and a maximum of 1000. So it is with a cell that reaches beyond the first
# row or column. The same image in one chunk is right, or in chunks whose borders go through no cell, as are all other
# cells, so that the intensities depend on how the file was written. Holes of polygons are measured too: a ring of 100
# around 0 has a mean of 75. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check sopa==2.2.11 spatialdata==0.7.3 numpy==2.4.6 scikit-image==0.26.0 \
  shapely==2.2.0 geopandas==1.2.0
cat > show.py <<'PY'
import logging
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import dask.array as da  # noqa: E402
import geopandas as gpd  # noqa: E402
import numpy as np  # noqa: E402
import shapely  # noqa: E402
from sopa.aggregation import aggregate_channels  # noqa: E402
from spatialdata import SpatialData  # noqa: E402
from spatialdata.models import Image2DModel, ShapesModel  # noqa: E402

logging.disable(logging.INFO)
print(f"sopa {version('sopa')}, spatialdata {version('spatialdata')}")
SIDE, RADIUS = 200, 15
rows, columns = np.mgrid[:SIDE, :SIDE]
image = np.zeros((2, SIDE, SIDE), np.float32)
cells = []
for x, y in ((100, 100), (100, 45), (45, 100), (45, 45), (165, 165), (8, 150)):
    cells.append(shapely.Point(x, y).buffer(RADIUS))
    image[0][np.hypot(columns - x, rows - y) <= RADIUS + 2] = 100  # two pixels more than the cell
image[1][np.hypot(columns - 100, rows - 100) <= RADIUS + 2] = 10
image[1][np.hypot(columns - 117, rows - 117) <= 5] = 1000  # a neighbour
hole = shapely.Point(45, 155).buffer(10)
cells.append(shapely.Point(45, 155).buffer(20).difference(hole))
image[0][(np.hypot(columns - 45, rows - 155) > 10) & (np.hypot(columns - 45, rows - 155) <= 22)] = 100
shapes = ShapesModel.parse(gpd.GeoDataFrame(geometry=cells))


def measure(chunk):
    """The mean, the minimum and the maximum of both channels in each cell."""
    parsed = Image2DModel.parse(da.from_array(image, chunks=(2, chunk, chunk)), dims=("c", "y", "x"),
                                c_coords=["a", "b"])
    data = SpatialData(images={"image": parsed}, shapes={"cells": shapes})
    assert {n for sizes in data["image"].data.chunks[1:] for n in sizes[:-1]} <= {chunk}
    return {mode: np.asarray(aggregate_channels(data, image_key="image", shapes_key="cells", mode=mode).X).round()
            for mode in ("average", "min", "max")}


pixels = shapely.contains_xy(cells[0], columns, rows)
assert (image[0][pixels] == 100).all() and (image[1][pixels] == 10).mean() > 0.98
found = {chunk: measure(chunk) for chunk in (SIDE, 70, 100)}
for chunk, modes in found.items():
    print(f"   chunks of {chunk}: means of channel a {modes['average'][:, 0].tolist()}, minima "
          f"{modes['min'][:, 0].tolist()}")
    print(f"      of the first cell, channel b: mean {modes['average'][0, 1]:g}, maximum {modes['max'][0, 1]:g}")
for chunk in (SIDE, 70):  # 70 and 140 go through no cell but the last two
    assert found[chunk]["average"][:5, 0].tolist() == found[chunk]["min"][:5, 0].tolist() == [100] * 5
assert found[100]["average"][:5, 0].tolist() == [90, 94, 94, 100, 100]
assert found[100]["min"][:5, 0].tolist() == [0, 0, 0, 100, 100]
assert found[SIDE]["min"][5, 0] == 0  # beyond the first column
assert (found[SIDE]["average"][6, 0], found[SIDE]["min"][6, 0]) == (75, 0)  # with a hole
for chunk, values in ((SIDE, (10, 10)), (70, (10, 10)), (100, (20, 1000))):
    assert (found[chunk]["average"][0, 1], found[chunk]["max"][0, 1]) == values
PY
OMP_NUM_THREADS=1 venv/bin/python show.py | grep -v Completed  # the bars
