#!/usr/bin/env bash
# onnxscript 0.7.2 converts ONNX models to another opset (version_converter.convert_version). Its lowest opset is 18.
# Of older models it raises the number nevertheless and leaves the nodes as they are, also those that then mean
# something else. RoiAlign of opset 10 to 15 reads its boxes half a feature further to the left and above, at stride 32
# by 16 pixels of the image, and Softmax of opset 11, which has a sum of 1 over all axes from the given one on, has it
# over that axis alone: a map of 6×8 pixels then sums up to 8. onnx's own converter, which it falls back to with
# fallback=True, is right in both. (Its code has a warning for such cases, in a place that it does not reach, and would
# leave the model as it is.) From opset 18 on it is right, but of a model given as onnx.ModelProto it converts only the
# graph, and the number stays: GridSample then has the mode of opset 20, "cubic", in a model of opset 18, which
# onnxruntime 1.32.0 refuses. Nothing is said. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnxscript==0.7.2 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 \
  numpy==2.4.6
cat > show.py <<'PY'
import logging
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
from onnx import version_converter as onnx_converter
from onnxscript import ir, version_converter


def model(op, inputs, opset, **options):
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *inputs], ["y"], **options)], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])],
        [numpy_helper.from_array(a, name) for name, a in inputs.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(made, full_check=True)
    return made


def results(made):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it refuses is told below
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def converted(made, opset, **options):
    loaded = ir.from_proto(made)
    logging.disable(logging.WARNING if options else logging.NOTSET)  # it tells of falling back
    version_converter.convert_version(loaded, opset, **options)
    made = ir.to_proto(loaded)
    assert [o.version for o in made.opset_import] == [opset]
    checker.check_model(made, full_check=True)
    return made


print(*(f"{name} {version(name)}" for name in ("onnxscript", "onnx", "onnx-ir", "onnxruntime")))

# Features that say where they are: the first channel has the column, the second the row.
rows, columns = np.mgrid[:32, :32].astype(np.float32)
x = np.stack([columns, rows])[None]
box = np.array([[10, 12, 18, 17]], np.float32) * 32  # the middle is at 14, 14.5
old = model("RoiAlign", {"boxes": box, "which": np.zeros(1, np.int64)}, 11, output_height=7, output_width=7,
            sampling_ratio=2, spatial_scale=1 / 32)
middles = {}
for name, made in (("opset 11", old), ("by onnx to 18", onnx_converter.convert_version(old, 18)),
                   ("by onnxscript to 18", converted(old, 18)),
                   ("by onnxscript to 18 with fallback=True", converted(old, 18, fallback=True))):
    middles[name] = [round(float(c.mean()), 3) for c in results(made)[0]]
    print(f"RoiAlign, {name}: the middle of the box is read at {middles[name]}")
assert middles.pop("by onnxscript to 18") == [13.5, 14]
assert all(m == [14, 14.5] for m in middles.values())

x = np.random.default_rng(0).random((1, 1, 6, 8), np.float32)
old = model("Softmax", {}, 11, axis=2)
right = np.exp(x) / np.exp(x).sum((2, 3), keepdims=True)
sums = {}
for name, made in (("opset 11", old), ("by onnx to 18", onnx_converter.convert_version(old, 18)),
                   ("by onnxscript to 18", converted(old, 18)),
                   ("by onnxscript to 18 with fallback=True", converted(old, 18, fallback=True))):
    y = results(made)
    assert np.allclose(y, right, atol=1e-6) == (name != "by onnxscript to 18")
    sums[name] = round(float(y.sum()), 4)
    print(f"Softmax over 6×8 pixels, {name}: the sum is {sums[name]}")
assert sums.pop("by onnxscript to 18") == 8 and all(s == 1 for s in sums.values())

grid = np.random.default_rng(1).random((1, 5, 5, 2), np.float32) * 2 - 1
old = model("GridSample", {"grid": grid}, 18, mode="bicubic")
assert np.allclose(results(converted(old, 20)), results(old), atol=1e-6)  # as ir.Model
made = ModelProto()
made.CopyFrom(old)
version_converter.convert_version(made, 20)
mode = {a.name: helper.get_attribute_value(a) for a in made.graph.node[0].attribute}["mode"]
print(f"GridSample, a ModelProto converted to 20: opset {made.opset_import[0].version}, mode {mode}")
assert made.opset_import[0].version == 18 and mode == b"cubic"
try:
    results(made)
    raise SystemExit("onnxruntime takes it")
except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
    print("   onnxruntime:", str(error).split(") ")[-1])
made.opset_import[0].version = 20
assert np.allclose(results(made), results(old), atol=1e-6)
PY
nice -n 10 venv/bin/python show.py 2> said || { cat said; exit 1; }
[ ! -s said ] || { cat said; exit 1; }
