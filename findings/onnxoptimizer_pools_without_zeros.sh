#!/usr/bin/env bash
# onnxoptimizer 0.4.2 (onnxoptimizer.optimize, with its default passes) puts a Pad of zeros into the MaxPool after it, as
# networks have it that come from TensorFlow or have the padding in a layer of its own. MaxPool's own padding counts as
# nothing, not as 0: where all values of a window at the border are below 0, as logits or normalized features are, the
# largest of them takes the place of 0. With ceil_mode the last row and column of the result are gone. Two RandomNormal
# of a model, as noise for two images, become one, the same for both; and a Squeeze by axis -2 and one by axis 0 become
# one that onnxruntime refuses, though the model was valid. AveragePool is right. Nothing is said. Exits 1 if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnxoptimizer==0.4.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > show.py <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

warnings.simplefilter("error")
print(", ".join(f"{name} {version(name)}" for name in ("onnxoptimizer", "onnx", "onnxruntime")))


def both(nodes, image, shape, **constants):
    """What a model has, as it is and optimized, and the nodes of the second."""
    graph = helper.make_graph(
        nodes, "model", [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    optimized = onnxoptimizer.optimize(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    results = []
    for each in (model, optimized):
        try:
            results.append(onnxruntime.InferenceSession(each.SerializeToString(), options).run(None, {"x": image})[0])
        except Exception as error:  # noqa: BLE001
            results.append(str(error).split("] ")[-1])
    return *results, [node.op_type for node in optimized.graph.node]


node = helper.make_node
image = np.random.default_rng(0).normal(-2, 1, (1, 2, 8, 8)).astype(np.float32)
image[..., 2:6, 2:6] += 4
sides = np.array([0, 0, 1, 1, 0, 0, 1, 1])
padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
for kind, want in (("MaxPool", windows.max((-2, -1))), ("AveragePool", windows.mean((-2, -1)))):
    before, after, nodes = both([node("Pad", ["x", "p"], ["a"]), node(kind, ["a"], ["y"], kernel_shape=[3, 3],
                                                                      strides=[2, 2])], image, (1, 2, 4, 4), p=sides)
    wrong = ~np.isclose(after, want, atol=1e-5)
    print(f"   Pad of zeros and {kind}, optimized to {nodes}: {wrong.sum()} of {wrong.size} are wrong, by up to "
          f"{np.abs(after - want).max():.2f}")
    assert np.allclose(before, want, atol=1e-5)
    negative = (windows.max((-2, -1)) == 0) & (padded.min() < 0)
    assert nodes == ["MaxPool"] and (wrong == negative).all() and wrong.sum() > 8 if kind == "MaxPool" else not wrong.any()

end = np.array([0, 0, 0, 0, 0, 0, 1, 1])
before, after, nodes = both([node("Pad", ["x", "p"], ["a"]), node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2],
                                                                  strides=[2, 2], ceil_mode=1)],
                            image, (1, 2, 5, 5), p=end)
print(f"   the same with ceil_mode, a row and a column at the end: {before.shape}, optimized {after.shape}")
assert before.shape == (1, 2, 5, 5) and after.shape == (1, 2, 4, 4)

before, after, nodes = both([node("RandomNormalLike", ["x"], ["a"]), node("RandomNormalLike", ["x"], ["b"]),
                             node("Sub", ["a", "b"], ["y"])], image, image.shape)
print(f"   noise minus other noise: deviation {before.std():.2f}, optimized {after.std():.2f}, {nodes}")
assert before.std() > 1 and (after == 0).all()

tall = np.ones((1, 3, 1, 1, 4), np.float32)
before, after, nodes = both([node("Squeeze", ["x", "p"], ["a"]), node("Squeeze", ["a", "q"], ["y"])], tall, (3, 1, 4),
                            p=np.array([-2]), q=np.array([0]))
print(f"   {tall.shape} squeezed by -2 and 0: {before.shape}, optimized: {after}")
assert before.shape == (3, 1, 4) and "must be 1 instead of 3" in after
PY
OMP_NUM_THREADS=1 venv/bin/python show.py
