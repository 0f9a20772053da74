#!/usr/bin/env bash
# histolytics 0.3.0 joins the nuclei that the tiles of a slide have cut (InstMerger, which its segmenter of slides
# uses). It goes through the columns of tiles from the left, joins what lies on the line between a column and the next,
# and adds what else lies in the left one of the two. The last column is never the left one, and so its nuclei that no
# line cuts are gone: of 3×3 tiles with 121 nuclei 27, a third of the uncut ones, of two columns half of them. Nuclei at
# a corner of four tiles are there twice. The union of the same pieces has all nuclei once. Nothing is said, and the
# documentation says that it merges the instances at the boundaries. Exits 1 if that changes.
# Without the dependencies that it does not use.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==1.26.4 scipy==1.17.1 shapely==2.2.0 geopandas==1.1.4 \
  libpysal==4.14.1 numba==0.60.0 networkx tqdm psutil pandarallel==1.6.5
venv/bin/pip install -q --disable-pip-version-check --no-deps histolytics==0.3.0
cat > show.py <<'PY'
import contextlib
import io
import warnings
from importlib.metadata import version

import geopandas as gpd
from histolytics.wsi.mergers import InstMerger
from shapely import union_all
from shapely.geometry import Point, box

print(f"histolytics {version('histolytics')}, geopandas {version('geopandas')}, shapely {version('shapely')}")


def tried(columns, rows=3, side=100):
    """The cells, and how often each of them is in what is merged."""
    tiles = [(x * side, y * side, side, side) for y in range(rows) for x in range(columns)]
    places = [[p for p in range(25, n * side, 25)] for n in (columns, rows)]
    cells = {(x, y): Point(x, y).buffer(8) for x in places[0] for y in places[1]}
    pieces = [c.intersection(box(x, y, x + w, y + h)) for c in cells.values() for x, y, w, h in tiles]
    pieces = [p for p in pieces if p.area > 0]
    frame = gpd.GeoDataFrame({"class_name": ["cell"] * len(pieces)}, geometry=pieces)
    joined = list(union_all([p.buffer(1e-6) for p in pieces]).geoms)
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stderr(io.StringIO()):  # bars of progress
        warnings.simplefilter("always")
        merged = list(InstMerger(frame, tiles).merge().geometry)
    assert not said, [str(w.message) for w in said]

    def count(found):
        return {k: sum(f.intersection(c).area > 0.9 * c.area for f in found) for k, c in cells.items()}

    assert set(count(joined).values()) == {1} and len(joined) == len(cells)
    return len(pieces), count(merged)


seen = {}
for columns in (2, 3):
    pieces, times = tried(columns)
    lost = [k for k, n in times.items() if n == 0]
    doubled = [k for k, n in times.items() if n == 2]
    uncut = [k for k in times if k[0] % 100 and k[1] % 100]
    seen[columns] = [len(times), len(lost), len(doubled), len(uncut)]
    print(f"   {columns}×3 tiles of 100 pixels: {len(times)} cells in {pieces} pieces; lost {len(lost)}, "
          f"in columns {sorted({x for x, _ in lost})}; twice {len(doubled)}, at {doubled}")
    assert all(x > 100 * (columns - 1) for x, _ in lost) and set(lost) <= set(uncut)
    assert {k for k in uncut if k[0] > 100 * (columns - 1)} == set(lost)
assert seen == {2: [77, 27, 2, 54], 3: [121, 27, 4, 81]}
PY
venv/bin/python show.py
