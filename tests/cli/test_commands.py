"""The command line as users script it."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from command_line import call as _call
from command_line import error as _error

import b2inst.experiments
from b2inst.cli import STOPPED
from b2inst.data import write_scenes
from b2inst.evaluation import read_predictions
from b2inst.experiments.runs import preflight
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.tables.table_result import Measured, ResultRow, TableResult
from b2inst.models import create_model
from b2inst.weights import save_model


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    for seed, split in enumerate(("train", "val")):
        write_scenes(tmp_path / "coco", split=split, images=3, size=48, seed=seed)
    return tmp_path / "coco"


def test_help_names_the_commands() -> None:
    text = _call("--help").output
    for command in ("table", "train", "eval", "predict", "data"):
        assert command in text
    assert "..." not in text.partition("Commands:")[2]  # summaries that are cut off


def test_scenes_and_check(tmp_path: Path) -> None:
    made = _call("data", "scenes", "d", "--images", 2, "--size", 32, "--seed", 5)
    assert made.exit_code == 0
    assert (tmp_path / "d/annotations/instances_train.json").is_file()
    checked = _call("data", "check", "d")
    assert checked.exit_code == 0
    assert "2 images" in checked.output
    file = tmp_path / "d/annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["image_id"] = 77
    file.write_text(json.dumps(content))
    checked = _call("data", "check", "d")
    assert checked.exit_code == 1
    assert "77" in checked.output
    assert _call("data", "check", "d", "--split", f"{file}:{tmp_path}/d/train").exit_code == 1


def test_submission_of_images_without_annotations(tmp_path: Path) -> None:
    assert _call("data", "scenes", "d", "--images", 2, "--size", 48, "--seed", 5).exit_code == 0
    content = json.loads((tmp_path / "d/annotations/instances_train.json").read_text())
    del content["annotations"]
    info = tmp_path / "image_info_test-dev2017.json"
    info.write_text(json.dumps(content))
    names = tuple(category["name"] for category in content["categories"])
    model = create_model("maskrcnn-tiny", num_classes=len(names), class_names=names, shorter=48)
    save_model(model, tmp_path / "m.safetensors")
    call = ("submit", "m.safetensors", "--annotations", info, "--images", tmp_path / "d/train")
    made = _call(*call, "--out", "o", "--name", "mine")
    assert made.exit_code == 0, made.output
    (file,) = (tmp_path / "o").glob("*.json")
    count = len(json.loads(file.read_text()))
    assert made.stdout == f"o/{file.name}: {count} detections in 2 of 2 images\n"
    assert file.name == "detections_test-dev2017_mine_results.json"
    found = json.loads(file.read_text())
    assert {d["image_id"] for d in found} <= {image["id"] for image in content["images"]}
    assert found
    other = create_model("maskrcnn-tiny", num_classes=2, class_names=("a", "b"))
    save_model(other, tmp_path / "m.safetensors")
    assert "the model 2 classes" in _error(*call, "--out", "p")
    assert _call(*call, "--out", "p", "--name", "a/b").exit_code == 2


def test_submission_does_not_replace_another(tmp_path: Path) -> None:
    _call("data", "scenes", "d", "--images", 1, "--size", 48, "--seed", 5)
    info = tmp_path / "d/annotations/instances_train.json"
    names = tuple(c["name"] for c in json.loads(info.read_text())["categories"])
    for shorter in (48, 64):
        model = create_model("maskrcnn-tiny", num_classes=len(names), class_names=names)
        save_model(model, tmp_path / f"{shorter}.safetensors")
    call = ("--annotations", info, "--images", tmp_path / "d/train", "--out", "o")
    assert _call("submit", "48.safetensors", *call).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    assert len(before) == 2
    for kept in before:
        for path in before.keys() - {kept}:
            path.unlink()
        assert f"{kept.name}: already exists" in _error("submit", "64.safetensors", *call)
        assert kept.read_bytes() == before[kept]
        for path, content in before.items():
            path.write_bytes(content)
    assert _call("submit", "64.safetensors", *call, "--overwrite").exit_code == 0
    assert all(path.read_bytes() != content for path, content in before.items())


def test_mistakes_are_one_line() -> None:
    assert "no table 'table9'" in _error("table", "table9")
    assert "no profile 'huge'" in _error("table", "table1", "--profile", "huge")
    unknown = _error("train", "blendmask-r52", "--profile", "smoke")
    assert unknown == (
        "error: unknown model 'blendmask-r52'; did you mean 'blendmask-r50'? `b2inst models` lists "
        "all models"
    )
    option = _error("train", "blendmask-tiny", "--profile", "smoke", "--option", "wings=2")
    assert option.startswith("error: blendmask-tiny has no option wings; ")
    for device in ("tpu", "mps", "cudax"):
        told = f"error: device {device}: choose auto, cpu or cuda"
        assert _error("train", "blendmask-tiny", "--profile", "smoke", "--device", device) == told
    assert "which split" not in _error("table", "table1", "--data", "nowhere")
    if find_spec("wandb") is None:
        told = "logger wandb: not installed; pip install wandb"
        assert told in _error("train", "blendmask-tiny", "--logger", "wandb")
    assert "x.safetensors" in _error("predict", "x.safetensors", "a.png", "--out", "o")
    assert "nowhere: no such folder" in _error("data", "check", "nowhere")


@pytest.mark.parametrize(
    "arguments",
    [
        ["table", "table1", "--seeds", "0,x"],
        ["table", "table1", "--seeds", "1,1"],
        ["table", "table1", "--skip-bad"],
        ["train", "blendmask-tiny", "--option", "scoring"],
        ["train", "blendmask-tiny", "--option", "num_classes=3"],
        ["train", "blendmask-tiny", "--tensorboard", "--logger", "csv"],
        ["eval", "x.safetensors"],
        ["data", "scenes", "d", "--images", "0"],
    ],
)
def test_wrong_use_is_told_as_such(arguments: list[str]) -> None:
    assert _call(*arguments).exit_code == 2


def test_train_then_eval_then_predict(coco: Path, tmp_path: Path) -> None:
    trained = _call(
        *("train", "b2inst-blendmask-tiny", "--profile", "smoke", "--data", coco),
        *("--iterations", 2, "--option", "scoring=[iou]", "--seed", 3),
        *("--eval-every", 1, "--logger", "csv"),
    )
    assert trained.exit_code == 0, trained.output
    assert "evaluation every 1 iteration on 3 of 3 images of val" in trained.stdout
    assert "best.safetensors: best weights, of iteration" in trained.stdout
    assert "\ndevice cpu, 1 CPU thread\n" in trained.stdout
    (weights,) = (tmp_path / "runs").glob("*/model.safetensors")
    assert f"{weights.relative_to(tmp_path)}: weights" in trained.output
    assert len((weights.parent / "log.jsonl").read_text().splitlines()) == 2
    assert len((weights.parent / "csv/version_0/metrics.csv").read_text().splitlines()) == 3
    spec = json.loads((weights.parent / "spec.json").read_text())
    assert (spec["seed"], spec["options"]["scoring"]) == (3, ["iou"])

    evaluated = _call("eval", weights, "--data", coco, "--split", "val", "--out", "kept")
    assert evaluated.exit_code == 0, evaluated.output
    lines = trained.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[0] == "AP")
    table = "\n".join(lines[first : first + 4])
    assert table in evaluated.stdout
    predictions = tmp_path / "kept/predictions.jsonl.gz"
    again = _call("eval", predictions, "--data", coco, "--split", "val")
    assert table in again.stdout

    predicted = _call("predict", weights, coco / "val", "--out", "found", "--threshold", 0)
    assert predicted.exit_code == 0, predicted.output
    names = {path.name for path in (tmp_path / "found").glob("[!.]*")}
    assert names == {"000000.png", "000001.png", "000002.png", "predictions.json"}
    content = json.loads((tmp_path / "found/predictions.json").read_text())
    assert len(content["annotations"]) == len(read_predictions(predictions))


def test_train_from_the_weights_of_another_model(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are taken over, its content (not its place) says which run it is."""
    classes = json.loads((coco / "annotations/instances_train.json").read_text())["categories"]
    baseline = create_model("blendmask-tiny", num_classes=len(classes), attention_size=5)
    for name in ("one", "same"):
        save_model(baseline, tmp_path / f"{name}.safetensors")
    common = ("--profile", "smoke", "--data", coco, "--iterations", 1)
    for name in ("one", "same"):
        start = tmp_path / f"{name}.safetensors"
        call = _call("train", "b2inst-blendmask-tiny", *common, "--start", start)
        assert call.exit_code == 0, call.output
        if name == "one":
            assert "one.safetensors: " in call.stdout
            assert "widened: instance_head.coefficients.{weight, bias}" in call.stdout
            monkeypatch.delattr(preflight, "build_model")  # as nothing is built or fetched again
    assert re.fullmatch(r"runs/b2inst-\S+-seed0: is complete, mask AP \d+\.\d\n", call.stdout)
    (run,) = (tmp_path / "runs").iterdir()
    spec, provenance = (json.loads((run / f"{n}.json").read_text()) for n in ("spec", "provenance"))
    assert spec["options"]["attention_size"] == 5
    assert spec["start"]["path"] == str(tmp_path / "one.safetensors")
    assert provenance["start"]["sha256"] == spec["start"]["sha256"]
    assert (provenance["start"]["widened"], provenance["start"]["unused"]) == (2, 0)

    (tmp_path / "a.pth").touch()
    wrong = ("train", "blendmask-tiny", *common, "--start")
    assert "none.safetensors: no such weights file" in _error(*wrong, "none.safetensors")
    assert "a.pth: not a readable safetensors file" in _error(*wrong, "a.pth")
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_eval_on_other_classes(coco: Path, tmp_path: Path) -> None:
    classes = json.loads((coco / "annotations/instances_val.json").read_text())["categories"]
    names = ("cat", *(c["name"] for c in classes[1:]))
    for count, message in ((len(names), "category 0 is"), (2, "the model 2 classes")):
        model = b2inst.create_model("blendmask-tiny", num_classes=count, class_names=names[:count])
        b2inst.save_model(model, tmp_path / "m.safetensors")
        assert message in _error("eval", "m.safetensors", "--data", coco, "--split", "val")


#: Followed by data, as scenes are drawn before any table.
TABLE = ("table", "table1", "--profile", "smoke", "--data")


class Table:
    """Stands in for ``make_table``."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.given: dict[str, Any] = {}

    def __call__(self, name: str, **given: Any) -> TableResult:
        self.given = given
        if self.error is not None:
            raise self.error
        row = ResultRow(name="baseline", paper={"AP": 35.8}, status="not run")
        return TableResult(
            table=name, profile=given["profile"], columns=["AP"], rows=[row], provenance={}
        )


def test_table_options_reach_the_runs(monkeypatch: pytest.MonkeyPatch, coco: Path) -> None:
    table = Table()
    monkeypatch.setattr(b2inst.experiments, "make_table", table)
    result = _call(
        *("table", "table1", "--profile", "smoke", "--seeds", "0,2", "--jobs", 3, "--rerun"),
        *("--data", coco, "--skip-bad", "--device", "cpu", "--no-notebook", "--recompute"),
    )
    assert result.exit_code == 0, result.output
    assert table.given["seeds"] == (0, 2)
    assert table.given["rerun"] is True
    assert table.given["train"] is True
    assert table.given["start"] is None
    assert (table.given["data"].root, table.given["data"].skip_bad) == (coco, True)
    machine = table.given["machine"]
    assert (machine.jobs, machine.device, machine.threads) == (3, "cpu", 1)
    assert machine.recompute
    assert "baseline" in result.output
    assert "results/local/smoke/table1" in result.output
    _call("table", "table1", "--render")
    assert table.given["train"] is False
    assert table.given["published"] is False
    _call("table", "table1", "--published", "--data", coco)  # executes no notebook
    assert table.given["published"] is True


def test_rendering_shows_what_there_is(tmp_path: Path) -> None:
    result = _call("table", "table1", "--profile", "smoke", "--render")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("Nothing has been run here; cells are the paper's.\n")
    assert "on this machine" not in result.output
    for option in (("--seeds", "0,1"), ("--row", "HBB"), ("--rerun",), ("--published",)):
        refused = _call("table", "table1", "--profile", "smoke", "--render", *option)
        assert "--render runs nothing: leave out" in " ".join(refused.output.split())
    assert not (tmp_path / "results").exists()


def test_a_missing_notebook_is_found_before_training(tmp_path: Path) -> None:
    rows = "rows: [{name: a, model: blendmask}]"
    Path("t.yaml").write_text(f"title: t\nsource: none\nnotebook: nope.ipynb\n{rows}\n")
    error = _error("table", "t.yaml", "--profile", "smoke")
    assert error.startswith("error: t.yaml: notebook nope.ipynb is not in ")
    assert not (tmp_path / "runs").exists()


def test_a_table_says_how_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Measured(mean=40.0, n=1)
    row = ResultRow(name="baseline", paper={"AP": 35.8}, ours={"AP": cell}, status="run")
    result = TableResult(
        table="table1",
        profile="smoke",
        columns=["AP"],
        rows=[row.model_copy(update={"runs": ["abc"]})],
        provenance={"seeds": [0], "note": "The numbers mean nothing."},
    )
    monkeypatch.setattr(b2inst.experiments, "make_table", lambda *_, **__: result)
    text = _call("table", "table1", "--profile", "smoke", "--no-notebook").output
    assert "(n): number of seeds" in text
    assert "≈: the interval contains zero" in text
    assert "The numbers mean nothing." in text
    assert "results/ has no table1 of profile smoke and these data to compare with." in text


def test_batch_size_and_start_reach_the_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, coco: Path
) -> None:
    table = Table()
    monkeypatch.setattr(b2inst.experiments, "make_table", table)
    monkeypatch.setattr(b2inst.experiments, "execute", None)  # the notebook knows of no --start
    save_model(b2inst.create_model("blendmask-tiny", num_classes=8), tmp_path / "m.safetensors")
    call = (*TABLE, coco, "--batch-size", 4, "--start")
    result = _call(*call, "m.safetensors")
    assert result.exit_code == 0, result.output
    assert table.given["profile"] == "smoke-batch4"
    assert table.given["start"] == Path("m.safetensors")
    assert "results/local/smoke-batch4/table1" in result.output
    assert "gone.safetensors: no such weights file" in _error(*call, "gone.safetensors")


def test_train_in_batches_of_another_size(coco: Path, tmp_path: Path) -> None:
    call = ("train", "yolact-tiny", "--profile", "smoke", "--data", coco, "--batch-size", 6)
    result = _call(*call, "--recompute")
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    schedule = json.loads((run / "spec.json").read_text())["schedule"]
    # Smoke: AdamW with 0.001, 6 iterations of 2 images.
    assert (schedule["batch_size"], schedule["iterations"]) == (6, 2)
    assert schedule["learning_rate"] == pytest.approx(0.001 * 3**0.5)


def test_the_notebook_is_run_with_the_same_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, coco: Path
) -> None:
    executed: list[Any] = []

    def execute(notebook: Path, out: Path, parameters: Any, **_: Any) -> Any:
        executed.append((notebook, out, parameters))
        return out, out.with_suffix(".html")

    monkeypatch.setattr(b2inst.experiments, "make_table", Table())
    monkeypatch.setattr(b2inst.experiments, "execute", execute)
    result = _call("table", "table1", "--profile", "smoke", "--data", coco)
    assert "results/local/smoke/table1/table1.html" in result.output
    ((notebook, out, parameters),) = executed
    assert notebook.name == "table1_ablation.ipynb"
    assert out == tmp_path / "results/local/smoke/table1/table1.ipynb"
    assert parameters == {"profile": "smoke", "seeds": "0", "data": str(coco)}
    for option in (["--split", "val"], ["--render"]):
        _call(*TABLE, coco, *option)
    assert len(executed) == 1


def test_errors_and_ctrl_c_of_a_table(monkeypatch: pytest.MonkeyPatch, coco: Path) -> None:
    table = Table(RunError("HBB seed 0: no disk space"))
    monkeypatch.setattr(b2inst.experiments, "make_table", table)
    assert _error(*TABLE, coco) == "error: HBB seed 0: no disk space"
    table.error = KeyboardInterrupt()
    result = _call(*TABLE, coco)
    assert result.exit_code == STOPPED
    assert result.stderr == "stopped; rerun to resume\n"
    table.error = OSError(28, "No space left on device", "runs/x")
    assert "No space left on device: 'runs/x'" in _error(*TABLE, coco)


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, coco: Path) -> None:
    monkeypatch.setattr(b2inst.experiments, "make_table", Table(ZeroDivisionError()))
    assert isinstance(_call(*TABLE, coco).exception, ZeroDivisionError)
