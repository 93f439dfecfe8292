"""The command line as a script sees it: words, files, JSON and exit codes."""

import json
import re
import subprocess
import sys

import pytest
from datafiles import coco

from ytrue.cli.predicting import _picture_names
from ytrue.datasets import load, write_shapes

COMMANDS = [
    "demo",
    "inspect",
    "audit",
    "compare",
    "show",
    "encode",
    "convert",
    "train",
    "predict",
    "export",
    "evaluate",
    "tune",
]


def run(*arguments, code=0, cwd=None):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ytrue", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,  # a busy machine compiles and trains slowly
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(
        tmp_path_factory.mktemp("shapes"), num_images=6, image_size=(96, 128), bad=True
    )


def test_help_lists_every_command_and_each_has_an_example():
    said = run("--help").stdout
    for name in COMMANDS:
        assert f"  {name} " in said
        assert f"Example: ytrue {name}" in " ".join(run(name, "--help").stdout.split())
    assert run("--version").stdout.strip() == "0.1.0"


def test_help_stays_light():
    code = "import sys\nsys.argv = ['ytrue', '--help']\nfrom ytrue.cli import main\ntry:\n    main()\nexcept SystemExit: pass\nheavy = {'numpy', 'numba', 'tensorflow', 'keras', 'matplotlib', 'rich.table'}\nprint(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_inspect(shapes):
    said = run("inspect", shapes).stdout
    assert f"{len(load(shapes).problems)} problems" in said
    plain = json.loads(run("inspect", shapes, "--json").stdout)
    assert (plain["format"], plain["images"], len(plain["problems"])) == (
        "coco",
        8,  # the image whose name leads out is kept
        len(load(shapes).problems),
    )
    assert {"kind", "where", "detail", "action"} <= plain["problems"][0].keys()
    run("inspect", shapes, "--fail-on", "dropped", code=1)
    assert (
        "mend the file, or load without strict" in run("inspect", shapes, "--strict", code=2).stderr
    )


def test_audit(shapes, tmp_path):
    said = run("audit", shapes, "--size", "128", "--html", tmp_path / "a.html").stdout
    assert "images, " in said
    assert (tmp_path / "a.html").stat().st_size > 10_000
    plain = json.loads(
        run("audit", shapes, "--size", "96x128", "--preset", "retinanet", "--json").stdout
    )
    assert plain["image_size"] == [96, 128]
    assert plain["lost_share"] > 0
    done = run(
        "audit", shapes, "--size", "128", "--preset", "retinanet", "--fail-on", "0.01", code=1
    )
    assert "of the objects are lost, more than 1.0%" in done.stderr


def test_show(shapes, tmp_path):
    said = run(
        "show", shapes, "1", "--size", "128", "--object", "0", "-o", tmp_path / "p.png"
    ).stdout
    assert said.startswith("object 0, ")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    plain = json.loads(
        run("show", shapes, "#0", "--size", "128", "--json", "-o", tmp_path / "q.png").stdout
    )
    assert len(plain["objects"]) == len(load(shapes)[0].annotations)
    run("show", shapes, "shapes_00002", "--raw", cwd=tmp_path)
    assert (tmp_path / "shapes_00002_assignment.png").is_file()


def test_show_tells_of_many_objects_those_not_matched(tmp_path):
    boxes = [{"bbox": [x, y, 9, 9]} for x in range(0, 40, 5) for y in range(0, 30, 5)]
    file = coco(tmp_path, [*boxes, {"bbox": [1, 1, 40, 30]}])
    said = run("show", file, "1", "--size", "64", "--preset", "retinanet", cwd=tmp_path).stdout
    lines = said.splitlines()
    assert len(lines) == 42
    assert all("lost: its best IoU" in line for line in lines[:40])
    assert lines[40].startswith("and 9 more (8 low-iou, 1 matched): --object K tells of one")


def test_encode_and_convert(shapes, tmp_path):
    said = run(
        "encode",
        shapes,
        "-o",
        tmp_path / "r",
        "--targets",
        "--size",
        "128",
        "--shard-examples",
        "4",
    ).stdout
    assert "wrote 6 examples in 2 shards" in said
    assert json.loads(run("inspect", tmp_path / "r", "--json").stdout)["format"] == "records"
    run("show", tmp_path / "r", "#1", "-o", tmp_path / "s.png")
    assert (
        "VOC holds no outline" in run("convert", shapes, "--to", "voc", "-o", tmp_path / "v").stdout
    )
    run("convert", shapes, "--to", "coco", "-o", tmp_path / "c.json")
    assert (
        load(tmp_path / "c.json", images=shapes.parent / "images").num_objects
        == load(shapes).num_objects
    )


def test_evaluate(shapes, tmp_path):
    dataset = load(shapes)
    objects = dataset.objects
    found = [
        {
            "image_id": dataset.images.ids[image],
            "category_id": dataset.class_ids[label],
            "bbox": box,
            "score": 0.5,
        }
        for image, label, box in zip(
            objects.image, objects.label, objects.xywh.tolist(), strict=True
        )
    ]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    said = run("evaluate", shapes, results, "-o", tmp_path / "curves.png").stdout
    assert "1.000" in said
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    results.write_text(json.dumps(found[::2]))
    options = ("--json", "--score-threshold", "0.6", "--fail-under", "0.9")
    done = run("evaluate", shapes, results, *options, code=1)
    plain = json.loads(done.stdout)
    assert 0 < plain["coco"]["AP50"] < 0.9
    assert plain["confusion"]["small"]["found"] == 0
    found, said = done.stderr.splitlines()
    assert re.match(
        r"found in .*shapes.json: .*\d box-\w+ \(\w+\).*; ytrue inspect lists them", found
    )
    assert said == f"ytrue: AP50 is {plain['coco']['AP50']:.3f}, expected 0.9 or more"
    run("evaluate", shapes, results, "--fail-under", "0.1")


SMALL = ("--model", "nano", "--size", "64x96", "--epochs", "1", "--batch-size", "2")


def test_train_predict_evaluate(shapes, tmp_path):
    options = ("--hold-out", "2", "--max-lost", "1", *SMALL)
    said = run("train", shapes, "-o", tmp_path / "run", *options).stdout
    assert re.search(r"^epoch 1  loss .* AP50 0", said, re.MULTILINE)
    assert (tmp_path / "run" / "history.png").read_bytes()[:4] == b"\x89PNG"
    again = json.loads(run("train", shapes, "-o", tmp_path / "run", *options, "--json").stdout)
    assert len(again["history"]) == 1
    out = tmp_path / "out.json"
    found = ("--score-threshold", "0.001", "-o", out)
    said = run(
        "predict",
        tmp_path / "run",
        "--ids",
        shapes,
        *found,
        "--pictures",
        tmp_path / "p",
        "--soft",
        "--skip-broken",
    ).stdout
    assert "6 images in" in said
    assert len(list((tmp_path / "p").iterdir())) == 6
    plain = json.loads(run("evaluate", shapes, out, "--json").stdout)
    assert plain["detections"] == len(json.loads(out.read_text())) > 0
    held = json.loads(run("evaluate", shapes, tmp_path / "run", "--hold-out", "2", "--json").stdout)
    assert held["images"] < plain["images"]
    assert held["coco"]["AP50"] == pytest.approx(again["history"][0]["scores"]["AP50"], abs=1e-3)
    one = shapes.parent / "images" / "shapes_00003.jpg"
    run("predict", tmp_path / "run", one, *found)
    assert {record["image_id"] for record in json.loads(out.read_text())} == {one.name}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / one.name).write_bytes(one.read_bytes())
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    done = run("predict", tmp_path / "run", tmp_path / "photos", *found)
    assert "photos, no image by name: notes.txt\n" in done.stderr
    run("predict", tmp_path / "run", one, "--ids", shapes, *found, "--suppression", "global")
    assert {record["image_id"] for record in json.loads(out.read_text())} == {4}
    plain = json.loads(out.read_text())
    done = run("predict", tmp_path / "run", one, *found, "--duplicate-radius", "1", code=2)
    assert "--duplicate-radius means nothing to a detector of --task box" in done.stderr
    said = run("export", tmp_path / "run", "-o", tmp_path / "x", "--to", "float32").stdout
    assert "model_float32.tflite" in said
    run("predict", tmp_path / "x", one, "--ids", shapes, *found, "--suppression", "global",
        "--runtime", "tflite")  # fmt: skip
    exported = json.loads(out.read_text())
    assert len(exported) == pytest.approx(len(plain), rel=0.05)
    for record, other in zip(exported[:20], plain[:20], strict=True):
        assert record["score"] == pytest.approx(other["score"], abs=1e-3)
    done = run("export", tmp_path / "run", "-o", tmp_path / "x", code=2)
    assert "x: the folder is not empty; name a new one or empty it" in done.stderr


def test_pictures_of_different_images_have_different_names():
    names = _picture_names(["a/b.jpg", "a_b.jpg", "a_b_jpg", 7])
    assert list(names.values()) == ["a_b_jpg.png", "a_b_jpg_2.png", "a_b_jpg_3.png", "7.png"]


def test_training_on_lost_objects_is_refused_with_the_audit(shapes, tmp_path):
    done = run(
        "train", shapes, "-o", tmp_path / "run", "--preset", "retinanet", "--model", "nano",
        "--size", "64", code=1,
    )  # fmt: skip
    assert "low-iou" in done.stdout
    assert "of the objects would own no anchor, more than the 5.0% allowed" in done.stderr
    assert not (tmp_path / "run").exists()


WRONG = [
    (("inspect", "nothing.json"), "nothing.json: no such file or folder; check the path"),
    (("inspect", "."), "no known annotation format found"),
    (("audit", "data.json", "--size", "big"), "--size big: expected SIDE or HEIGHTxWIDTH"),
    (("audit", "data.json", "--preset", "x"), "preset 'x': expected one of ytrue, efficientdet"),
    (("audit", "data.json", "--resize", "x"), "--resize x: expected one of letterbox, stretch"),
    (("train", "data.json", "-o", "r", "--model", "d9"), "--model 'd9': expected one of d0, d1"),
    (
        ("train", "data.json", "-o", "r", "--pretrained", "x", "--batch-size", "1"),
        "x: no weights there; expected an .h5 file",
    ),
    (("predict", "nowhere", "data.json"), "nowhere: no run.json in it; name the folder"),
    (
        ("audit", "data.json", "--task", "fcos", "--anchor-scale", "3"),
        "--anchor-scale is of anchors: --task fcos has none of presets",
    ),
    (
        ("audit", "data.json", "--task", "centernet", "--preset", "retinanet"),
        "--preset is of anchors: --task centernet has none of presets",
    ),
    (
        ("predict", "nowhere", "data.json", "--runtime", "tflite", "--batch-size", "4"),
        "--batch-size 4: a TFLite file takes one image at a time",
    ),
    (
        ("export", "nowhere", "-o", "x", "--to", "int8"),
        "--to int8 needs --representative FOLDER: its images set the 8-bit ranges",
    ),
    (
        ("train", "data.json", "-o", "r", "--save-every", "-5"),
        "save_every=-5.0: expected seconds from 0",
    ),
    (("train", "data.json", "-o", "r", "--augment", "x"), "augment='x': expected one of none"),
    (("predict", "nowhere"), "name image files or folders, or a dataset with --ids"),
    (
        ("predict", "nowhere", "--hold-out", "2"),
        "--hold-out belongs to a dataset: name it with --ids",
    ),
    (("predict", "nowhere", "data.json", "-o", "."), ".: a folder; name the file to write with -o"),
    (
        ("predict", "nowhere", "data.json", "--precision", "int8"),
        "--precision int8 is of --runtime tflite",
    ),
    (("show", "data.json", "1", "-o", "."), ".: no picture's name; expected one in .png, .jpg"),
    (("show", "data.json", "1", "-o", "a.txt"), "a.txt: no picture's name; expected one in .png"),
    (("show", "data.json", "1", "-o", "a.jpg/b.png"), "a.jpg: "),
    (("audit", "data.json", "--html", "a.png"), "a.png: no page's name; expected one in .html"),
    (("audit", "data.json", "--html", "/proc/x/a.html"), "/proc/x: No such file or directory"),
    (("audit", "data.json", "--fail-on", "2"), "--fail-on 2: expected a share from 0 to 1"),
    (("audit", "data.json", "--fail-on", "nan"), "--fail-on nan: expected a share from 0 to 1"),
    (("train", "data.json", "-o", "r", "--max-lost", "5"), "--max-lost 5: expected a share"),
    (("tune", "keypoints", "data.json", "--lost", "-1"), "--lost -1: expected a share"),
    (("tune", "polygons", "data.json", "--loss", "1.5"), "--loss 1.5: expected a share"),
    (("evaluate", "data.json", "x.json", "--fail-under", "50"), "--fail-under 50: expected a"),
    (("audit", "data.json", "--size", "1000000"), "--size 1000000: expected sides from 1 to 16384"),
    (("audit", "data.json", "--size", "0"), "--size 0: expected sides from 1 to 16384"),
    (("audit", "data.json", "--size", "9" * 5000), "expected sides from 1 to 16384"),
    (("audit", "data.json", "--size", "5\u00b2"), "expected SIDE or HEIGHTxWIDTH"),
    (("inspect", "a" * 300), "File name too long; name a shorter path"),
    (("encode", "data.json", "-o", "a" * 300), "File name too long; name a shorter path"),
    (("encode", "data.json", "-o", "."), ".: the folder holds something else; name a new one"),
    (("train", "data.json", "-o", "."), ".: the folder holds something else; name a new one"),
    (("demo", "-o", "data.json"), "data.json: a file, not a folder; name another"),
    (("nothing",), "No such command 'nothing'. See ytrue --help."),
    (("inspect", "data.json", "--nothing"), "No such option: --nothing"),
    (("inspect",), "Missing argument 'data'. See ytrue --help."),
    (("show", "data.json", "77"), "no image '77' among 1; name it by id, file name or position"),
    (("audit", "data.json", "--task", "wheel"), "--task wheel: expected one of box, keypoints"),
    (("audit", "data.json", "--task", "keypoints"), "the dataset has no keypoints; take COCO"),
    (("audit", "data.json", "--set", "a"), "--set a: expected NAME=VALUE, such as stride=8,16"),
    (
        ("audit", "data.json", "--set", "a=1"),
        "--set a=...: --task box takes min_level, max_level, num_scales, aspect",
    ),
    (
        ("audit", "data.json", "--task", "mask", "--set", "bins=8"),
        "--set bins=...: --task mask takes min_level, max_level, num_scales, aspect_ratios",
    ),
    (
        ("audit", "data.json", "--task", "mask", "--set", "stride=8,16"),
        "stride=(8, 16): expected a",
    ),
    (
        ("compare", "data.json", "--size", "64"),
        "yolo: data.json: 9 anchors for objects of 1 different sizes",
    ),
    (("show", "data.json", "#7"), "no image #7: the dataset has 1"),
    (("show", "data.json", "1", "--object", "3"), "--object 3: the image has 1 object, from 0"),
    (("convert", "data.json", "--to", "x", "-o", "y"), "format 'x' cannot be written"),
    (("evaluate", "data.json", "nothing.json"), "nothing.json: cannot be read (No such file"),
    (("evaluate", "data.json", "data.json"), "the file holds a COCO dataset, not a list of"),
    (("inspect", "data.json", "--fail-on", "x"), "--fail-on x: expected one of any, dropped, none"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    if "data.json" in arguments:
        coco(tmp_path, [{"bbox": [1, 2, 30, 20]}])
    done = run(*arguments, code=2, cwd=tmp_path)
    assert message in done.stderr
    assert done.stderr.startswith("ytrue: ")
    assert done.stderr.count("\n") == 1


def failing(code, *arguments):
    """Run the command line after some lines of Python that make it fail."""
    script = f"import sys\nsys.argv = ['ytrue', *{list(map(str, arguments))!r}]\n{code}\nmain()"
    start = "from ytrue.cli import main\nimport ytrue.datasets\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", start + script], capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("OSError(28, 'No space left on device', 'a.json')", 2, "a.json: No space left on device; make room"),
        ("OSError(5, 'Input/output error')", 2, "the output cannot be written: Input/output error"),
        ("PermissionError(13, 'Permission denied', b'b.png')", 2, "b.png: Permission denied; name"),
        ("TimeoutError('late')", 2, "late"),
        ("MemoryError()", 2, "not enough memory (the system gives no more)"),
        ("RecursionError('deep')", 2, "the data is nested too deeply"),
        ("OverflowError('too large')", 2, "too large"),
        ("UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')", 2, "'utf-8' codec can't decode"),
        ("ValueError('one\\ntwo\\x1b[31m')", 2, "one two\\x1b[31m"),
        ("KeyError('x')", 3, "KeyError at "),
        ("TypeError('no')", 3, "YTRUE_TRACEBACK=1 shows where"),
        ("KeyboardInterrupt()", 130, "interrupted"),
        ("BrokenPipeError()", 141, None),
    ],
)  # fmt: skip
def test_every_error_is_one_line_and_a_code(error, code, said):
    done = failing(
        f"def fails(*_, **__): raise {error}\nytrue.datasets.load = fails", "inspect", "data"
    )
    assert done.returncode == code, done.stderr
    if said is None:
        assert done.stderr == ""
        return
    assert done.stderr.startswith("ytrue: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(("verb", "goes_on"), [("encode", True), ("convert", False)])
def test_an_interrupted_verb_says_how_it_goes_on(verb, goes_on, tmp_path):
    stop = "def stops(*_, **__): raise KeyboardInterrupt\nytrue.datasets.load = stops"
    more = ("--to", "coco") if verb == "convert" else ()
    done = failing(stop, verb, "data", "-o", tmp_path / "out", *more)
    assert ("the same command goes on" in done.stderr) == goes_on


def test_a_traceback_is_shown_to_who_asks(monkeypatch):
    monkeypatch.setenv("YTRUE_TRACEBACK", "1")
    done = run("inspect", "nothing", code=2)
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ytrue: nothing: no such file")


VERBS_THAT_PRINT = [
    ("inspect",),
    ("inspect", "--json"),
    ("audit", "--size", "64"),
    ("audit", "--size", "64", "--json"),
    ("compare", "--size", "128", "--with", "ytrue,fcos"),
    ("tune", "keypoints", "--size", "64"),
    ("show", "#0", "--size", "64"),
]


@pytest.mark.parametrize("verb", VERBS_THAT_PRINT, ids=" ".join)
def test_a_full_disk_is_one_line(verb, shapes, tmp_path):
    words = [*verb[:2], shapes, *verb[2:]] if verb[0] == "tune" else [verb[0], shapes, *verb[1:]]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ytrue", *map(str, words)], stdout=full,
            stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=600,
        )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if not line.startswith("found in ")]
    assert said == [
        "ytrue: the output cannot be written: No space left on device; make room, or name another place"
    ]
    assert done.returncode == 2


@pytest.mark.parametrize("verb", ["inspect", "inspect --json"])
def test_a_reader_that_has_enough_is_no_error(verb, shapes):
    command = f"{sys.executable} -P -m ytrue {verb} {shapes}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("141", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed, shapes):
    command = f"{sys.executable} -P -m ytrue inspect {shapes} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["inspect", "audit", "compare", "tune keypoints"])
def test_text_needs_no_more_than_json(verb, shapes):
    size = [] if verb == "inspect" else ["--size", "128"]
    names = ["--with", "fcos"] if verb == "compare" else []
    probe = "import atexit\natexit.register(lambda: print(sorted({'matplotlib', 'PIL.ImageFont'} & sys.modules.keys()), file=sys.stderr))"
    done = failing(probe, *verb.split(), shapes, *size, *names)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_names_from_files_are_printed_harmlessly(tmp_path):
    ugly = [
        "\x1b[31mred",
        "[bold]",
        ":smile:",
        "back\\",
        "<script>alert(1)</script>",
        "\ud800",
        "汽车",
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(ugly)]
    boxes = [{"bbox": [k, 2, 30, 20], "category_id": k} for k in range(len(ugly))]
    file = coco(tmp_path, boxes, categories=categories)
    page = tmp_path / "a.html"
    for words in (
        ("inspect", file),
        ("audit", file, "--size", "64", "--html", page),
        ("show", file, "1", "--size", "64", "-o", tmp_path / "a.png"),
    ):
        done = run(*words)
        assert "\x1b" not in done.stdout
        for name in ("\\x1b[31mred", "[bold]", ":smile:", "back\\", "<script>", "汽车"):
            assert name in done.stdout
        # A name that no text can be (half a character) is told of, and nothing else is.
        assert all("text-invalid" in line for line in done.stderr.splitlines())
    assert "<script>" not in page.read_text()
    assert "\x1b" not in page.read_text()


def test_what_another_made_stays(shapes, tmp_path):
    for name in ("a.png", "a.html", "a.json"):
        (tmp_path / name).write_text("another's")
    for words in (
        ("show", shapes, "#0", "--size", "64", "-o", tmp_path / "a.png"),
        ("audit", shapes, "--size", "64", "--html", tmp_path / "a.html"),
        ("compare", shapes, "--size", "64", "--html", tmp_path / "a.html"),
        ("tune", "keypoints", shapes, "--size", "64", "-o", tmp_path / "a.png"),
        ("convert", shapes, "--to", "coco", "-o", tmp_path / "a.json"),
        ("predict", tmp_path, shapes, "-o", tmp_path / "a.json"),
        ("evaluate", shapes, tmp_path / "a.json", "-o", tmp_path / "a.png"),
    ):
        done = run(*words, code=2)
        assert "--force" in done.stderr
        refused = [line for line in done.stderr.splitlines() if "; ytrue inspect lists" not in line]
        assert len(refused) == 1  # beside what reading found
    for name in ("a.png", "a.html", "a.json"):
        assert (tmp_path / name).read_text() == "another's"
    for _ in range(2):
        run("show", shapes, "#0", "--size", "64", "-o", tmp_path / "a.png", "--force")
    run("show", shapes, "#0", "--size", "64", "-o", tmp_path / "a.png")


def test_the_demo_shows_everything(tmp_path):
    said = run("demo", "-o", tmp_path, "--images", "16", "--steps", "4").stdout
    for part in (
        "13 problems",
        "matched",
        "wrote",
        "images (4, 512, 512, 3) float32",
        "nano at 192 x 256 on 8 images, 2 epochs",
        "AP50 on the 8 images held out: 0.0",
        "ytrue inspect",
    ):
        assert part in said
    for name in (
        "assignment.png",
        "levels.png",
        "object.png",
        "audit.png",
        "audit.html",
        "found.png",
    ):
        assert (tmp_path / name).stat().st_size > 5_000
    run("demo", "-o", tmp_path, "--images", "16", "--steps", "0")


FIXED = ("--set", "stride=8", "--set", "slots=fixed")


def test_audit_and_show_by_task(shapes, tmp_path):
    page, picture = tmp_path / "audit.html", tmp_path / "picture.png"
    size = ("--size", "96x128")
    said = run("audit", shapes, "--task", "keypoints", *size, "--html", page).stdout
    assert "points lost to others" in said.replace("Points", "points")
    assert "24x32" not in said
    assert "12x16" in said
    assert "<h2>Lost points</h2>" in page.read_text()
    both = json.loads(run("audit", shapes, "--task", "pose", *size, *FIXED, "--json").stdout)
    assert both["keypoints"]["encoder"]["slots"] == "fixed"
    assert both["box"]["encoder"]["encoder"] == "anchor"
    said = run("show", shapes, "#1", "--task", "pose", *size, *FIXED, "-o", picture).stdout
    for name in ("box", "keypoints"):
        file = tmp_path / f"picture_{name}.png"
        assert f"wrote {file}" in said
        assert file.read_bytes().startswith(b"\x89PNG")
    assert "left: owns slot 0 of the cell in row" in said
    said = run("audit", shapes, "--task", "yolo", *size, "--set", "anchors=2").stdout
    assert "forced" in said
    assert not any(other in said for other in ("reserved", "second choice"))
    plain = json.loads(
        run("show", shapes, "#1", "--task", "keypoints", *size, "-o", picture, "--object", "0",
            "--json").stdout
    )  # fmt: skip
    assert [row["landmark"] for row in plain["points"]] == ["left", "top", "right", "bottom"]
    assert {row["object"] for row in plain["points"]} == {0}


def test_audits_of_outlines_count_them(shapes):
    size = ("--size", "96x128")
    dataset = load(shapes)
    for task in ("mask", "polygon"):
        found = json.loads(run("audit", shapes, "--task", task, *size, "--json").stdout)
        assert found["outlines"] == dataset.outlines
        assert sum(dataset.outlines.values()) == (~dataset.objects.crowd).sum()
    assert (
        f"{dataset.outlines['none']:,} objects have none and teach class and box only"
        in run("audit", shapes, "--task", "mask", *size).stdout
    )
    assert "outlines" not in json.loads(run("audit", shapes, *size, "--json").stdout)


def test_show_outlines(shapes, tmp_path):
    picture = tmp_path / "picture.png"
    arguments = ("show", shapes, "#1", "--task", "polygon", "--size", "96x128", "-o", picture)
    said = run(*arguments, "--set", "bins=8").stdout
    objects = load(shapes)[1].annotations
    assert said.count("vertices kept, in ") == len(objects)
    assert " of 8 bins: IoU " in said
    whole = picture.read_bytes()
    assert whole.startswith(b"\x89PNG")
    plain = json.loads(run(*arguments, "--object", "0", "--json").stdout)
    (row,) = plain["objects"]
    assert row["outline"]["kept"] <= row["outline"]["vertices"]
    assert f"IoU {row['outline']['iou']:.2f} with the object" in row["why"]
    assert row["outline"]["unused_parts"] == 0
    alone = picture.read_bytes()
    run(*arguments, "--levels")
    assert len({whole, alone, picture.read_bytes()}) == 3


@pytest.mark.parametrize(
    ("task", "score", "fields", "settings"),
    [
        ("keypoints", "PCK", {"landmark", "point"}, FIXED),
        pytest.param(
            "pose", "OKS AP50", {"category_id", "bbox", "keypoints"}, FIXED,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "polygon", "mask AP50", {"category_id", "bbox", "segmentation"}, ("--set", "bins=8"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "mask", "mask AP50", {"category_id", "bbox", "segmentation"}, ("--set", "stride=8"),
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(task, "AP50", {"category_id", "bbox"}, (), marks=pytest.mark.slow)
            for task in ("yolo", "fcos", "centernet")
        ),
    ],
)  # fmt: skip
def test_train_predict_evaluate_by_task(shapes, tmp_path, task, score, fields, settings):
    folder, out = tmp_path / task, tmp_path / f"{task}.json"
    options = ("--hold-out", "2", "--max-lost", "1", *SMALL, "--augment", "flip", *settings)
    said = run("train", shapes, "-o", folder, "--task", task, *options).stdout
    assert re.search(rf"^epoch 1  loss .* {score} 0", said, re.MULTILINE)
    run("predict", folder, "--ids", shapes, "--score-threshold", "0", "--skip-broken",
        "-o", out, "--pictures", tmp_path / "p", "--task", task)  # fmt: skip
    assert set(json.loads(out.read_text())[0]) == fields | {"image_id", "score"}
    of_file = json.loads(run("evaluate", shapes, out, "--json").stdout)
    of_run = json.loads(
        run("evaluate", shapes, folder, "--json", "--pictures", tmp_path / "e").stdout
    )
    assert of_file.keys() == of_run.keys()
    assert (tmp_path / "e" / "worst_1.png").is_file()
    said = run("evaluate", shapes, out, "--fail-under", "1", code=1)
    assert "expected 1 or more" in said.stderr
    said = run("predict", folder, "--ids", shapes, "--task", "box", code=2).stderr
    assert f"a detector of --task {task}, not box; leave --task out" in said


def test_tune_keypoints(shapes, tmp_path):
    picture = tmp_path / "tuning.png"
    said = run("tune", "keypoints", shapes, "--size", "128", "--lost", "0.2", "-o", picture).stdout
    assert "Recommended: " in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    options = ("--size", "96x128", "--strides", "8,32", "--points", "2,1", "--hidden", "skip")
    plain = json.loads(run("tune", "keypoints", shapes, *options, "--json").stdout)
    assert plain["image_size"] == [96, 128]
    assert [(c["grid"], c["points_per_cell"]) for c in plain["choices"]] == [
        ([1, 1], 1), ([1, 1], 2), ([3, 4], 1), ([3, 4], 2), ([12, 16], 1), ([12, 16], 2),
    ]  # fmt: skip
    assert plain["not_taught"] > 0
    assert "--points 1,x: expected whole numbers above 0" in (
        run("tune", "keypoints", shapes, "--points", "1,x", code=2).stderr
    )
    wrong = run("tune", "keypoints", shapes, "--slots", "some", code=2).stderr
    assert "--slots some: expected one of any, fixed" in wrong


def test_tune_polygons(shapes):
    said = run("tune", "polygons", shapes, "--size", "128", "--bins", "12,8").stdout
    assert "Recommended: " in said
    assert "--task polygon --set bins=" in said
    plain = json.loads(run("tune", "polygons", shapes, "--bins", "8", "--json").stdout)
    assert plain["recommended"]["bins"] == 8
    wrong = run("tune", "polygons", shapes, "--part-rule", "all", code=2).stderr
    assert "--part-rule all: expected one of largest, hull" in wrong


def test_tuning_a_dataset_without_keypoints_is_one_line(tmp_path):
    file = coco(tmp_path, [{"bbox": [10, 10, 20, 20]}])
    done = run("tune", "keypoints", file, code=2)
    assert "no labelled keypoint inside an image" in done.stderr
    assert done.stderr.count("\n") == 1
