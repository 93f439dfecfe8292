"""Mutated files into readers, each in a process that may die: python tests/fuzzing.py TARGET --count 500

Prints a JSON line for every failure: an exception that is no DataError, a signal, or a hang. The
failing files stay in `--keep`, so that a case can be looked at and shrunk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

SECONDS = 20.0
MEMORY = 6 * 2**30
NUMBERS = (
    b"0", b"-1", b"NaN", b"nan", b"Infinity", b"-inf", b"1e999", b"1e308", b"-1e30", b"1e-320",
    b"2147483648", b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"0.1", b"1.5",
    b"1_0", b"0x1f", b'"7"', b"null", b"true", b"[]", b"{}", b'""', b"[[[[]]]]", b"1e",
)  # fmt: skip
TEXTS = (
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\x1b[31m", b"\xed\xa0\x80", b"\\ud800", b"\r", b"\n\n",
    b"../../x", b"/etc/passwd", b"C:\\x.jpg", b"a" * 300, "ä日本".encode(), b"&amp;", b"<!--", b"]]>",
    b"{" * 2000, b"[" * 200_000, b"<a>" * 2000, b"%", b"*a", b"!!python/object:x ", b": ", b"- ",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one to three small changes, half of them to whole numbers or words."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_MUTATIONS)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _leave_out(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) + 1)
    return data[:first] + data[first + rng.randrange(1, 60) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) + 1)
    last = first + rng.randrange(1, 200)
    return data[:last] + data[first:last] * rng.choice((1, 2, 50)) + data[last:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TEXTS) + data[at:]


def _number(data: bytes, rng: random.Random) -> bytes:
    """Put an odd number in the place of one of the file's."""
    import re

    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:200_000]))
    if not found:
        return _flip(data, rng)
    place = rng.choice(found)
    return data[: place.start()] + rng.choice(NUMBERS) + data[place.end() :]


def _token(data: bytes, rng: random.Random) -> bytes:
    """Put one of the file's words or values in the place of another."""
    import re

    found = list(re.finditer(rb'"[^"]*"|[\w.-]+', data[:200_000]))
    if len(found) < 2:
        return _flip(data, rng)
    ours, other = rng.choice(found), rng.choice(found)
    new = rng.choice((other[0], b"null", b"{}", b"[]", b"", b'"x"'))
    return data[: ours.start()] + new + data[ours.end() :]


def _foreign(data: bytes, rng: random.Random) -> bytes:
    """Write the text in another encoding."""
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252"))
    return data.decode("latin-1").encode(encoding, "replace")


_MUTATIONS = (_flip, _cut, _leave_out, _repeat, _insert, _number, _number, _token, _token, _foreign)


def cases(sample: Path, seed: int, count: int) -> Iterator[tuple[int, Path, str]]:
    """Yield (number, a folder with one file of the sample mutated, the file's name)."""
    names = sorted(str(path.relative_to(sample)) for path in sample.rglob("*") if path.is_file())
    originals = {name: (sample / name).read_bytes() for name in names}
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        for name, data in originals.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        name = rng.choice(names)
        (folder / name).write_bytes(mutated(originals[name], rng))
        try:
            yield number, folder, name
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def outcome(run: Callable[[Path], None], folder: Path) -> str | None:
    """Return what was wrong with `run(folder)` in a forked process; None: it returned or refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        said = b""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is logged on the way is not looked at
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            said = (_attempt(run, folder) or "").encode(errors="replace")[-3000:]
        except BaseException:
            said = traceback.format_exc().encode(errors="replace")[-3000:]
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    status = _waited(child)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    if status is None:
        return f"still running after {SECONDS:g} s"
    if os.WIFSIGNALED(status):
        return f"died of signal {os.WTERMSIG(status)}"
    return said or None


def _waited(child: int) -> int | None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _attempt(run: Callable[[Path], None], folder: Path) -> str | None:
    from ytrue import DataError

    try:
        run(folder)
    except DataError as error:
        if str(error).count("\n"):
            return f"a message of several lines: {error}"
    except Exception:
        return traceback.format_exc()
    return None


# What is run on the mutated files.


def read_all(folder: Path, format: str) -> None:
    """Load a dataset of a format, look at every example, encode boxes and write it as COCO."""
    import ytrue
    from ytrue.datasets.loading import recognise

    with contextlib.suppress(ytrue.DataError):  # its files alone may say nothing any more
        recognise(folder)
    dataset = ytrue.datasets.load(folder, format=format)
    for problem in dataset.problems:
        str(problem)
    if not len(dataset):
        return
    encoder = ytrue.encoders.preset("ytrue", (64, 64), max(1, dataset.num_classes))
    ytrue.audit(dataset, encoder)
    for example in dataset:
        for mask in example.annotations.masks or ():
            if mask is not None:
                mask.decode()
    with tempfile.TemporaryDirectory() as out:
        dataset.to_coco(Path(out) / "out.json")


def read_pixels(folder: Path) -> None:
    """Decode every image file."""
    from ytrue.datasets.pixels import read_image

    for path in sorted(folder.iterdir()):
        read_image(path)


def read_records(folder: Path) -> None:
    """Load records and read every image's bytes."""
    import ytrue
    from ytrue.datasets.pixels import decode_image

    dataset = ytrue.datasets.load(folder)
    for image_id in dataset.images.ids:
        decode_image(dataset.store.image_bytes(image_id), where=str(image_id))


def read_results(folder: Path) -> None:
    """Evaluate a results file."""
    import ytrue
    from ytrue.model.evaluate import evaluate

    evaluate(ytrue.datasets.load(folder / "data.json"), folder / "results.json")


def read_run(folder: Path) -> None:
    """Load a run's detector."""
    from ytrue.model.predict import Detector

    Detector.load(folder, "last")


# Small sound samples.


def coco_sample(folder: Path) -> None:
    from datafiles import coco

    annotations = [
        {"bbox": [5, 6, 20, 10], "segmentation": [[5, 6, 25, 6, 25, 16, 5, 16]], "area": 200.0},
        {"bbox": [1, 2, 30, 20], "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [100, 80, 2220]}},
        {"bbox": [8, 8, 9, 9], "segmentation": {"size": [40, 60], "counts": "b09Q1"}, "attributes": [{"a": 1}]},
        {"bbox": [2, 2, 9, 9], "keypoints": [3, 4, 2, 5, 6, 1], "num_keypoints": 2},
    ]  # fmt: skip
    categories = [{"id": 3, "name": "dog", "keypoints": ["left_eye", "right_eye"]}]
    coco(folder, annotations, categories=categories, info={"year": 2020})


def voc_sample(folder: Path) -> None:
    from datafiles import image, voc

    for stem in "ab":
        image(folder / "JPEGImages" / f"{stem}.jpg")
        voc(
            folder / "Annotations" / f"{stem}.xml",
            [("cat", (1, 2, 30, 20), 0), ("dog", (5, 6, 60, 40), 1)],
        )
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")


def yolo_sample(folder: Path) -> None:
    from datafiles import image

    for split, stem in (("train", "a"), ("val", "b")):
        image(folder / "images" / split / f"{stem}.jpg")
        labels = folder / "labels" / split / f"{stem}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text(
            "0 0.5 0.5 0.2 0.4 0.4 0.4 2 0.6 0.6 1\n1 0.3 0.3 0.1 0.1 0.3 0.3 2 0 0 0\n"
        )
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
        "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
    )


def labelme_sample(folder: Path) -> None:
    from datafiles import image

    shapes = [
        {"label": "cat", "points": [[5, 6], [25, 16]], "shape_type": "rectangle", "group_id": None},
        {"label": "dog", "points": [[5, 6], [25, 6], [20, 16]], "shape_type": "polygon", "group_id": 1},
        {"label": "eye", "points": [[9, 9]], "shape_type": "point", "group_id": 1},
        {"label": "cat", "points": [[20, 20], [25, 20]], "shape_type": "circle", "group_id": None},
    ]  # fmt: skip
    for stem in "ab":
        image(folder / f"{stem}.jpg")
        record = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.jpg",
            "imageData": None, "imageHeight": 40, "imageWidth": 60,
        }  # fmt: skip
        (folder / f"{stem}.json").write_text(json.dumps(record))


def images_sample(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    for name in (
        "a.jpg",
        "a.png",
        "a.tif",
        "a.webp",
        "a.bmp",
        "a.gif",
        "a.avif",
        "a.jp2",
        "a.ppm",
        "a.dds",
    ):
        Image.fromarray(pixels).save(folder / name)  # fmt: skip
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "b.png")
    Image.fromarray(pixels[..., 0].astype(np.float32) / 255).save(folder / "c.tif")


def records_sample(folder: Path) -> None:
    import ytrue

    with tempfile.TemporaryDirectory() as source:
        coco_sample(Path(source))
        ytrue.datasets.write_records(ytrue.datasets.load(Path(source)), folder)
    (folder / ".lock").unlink(missing_ok=True)


def results_sample(folder: Path) -> None:
    coco_sample(folder)
    results = [
        {"image_id": 1, "category_id": 3, "bbox": [5, 6, 20, 10], "score": 0.9},
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.25},
    ]
    (folder / "results.json").write_text(json.dumps(results))


def run_sample(folder: Path) -> None:
    import keras
    import numpy as np

    from ytrue.encoders import preset
    from ytrue.model.predict import Detector
    from ytrue.model.tasks import build_model

    keras.utils.set_random_seed(0)
    encoder = preset("ytrue", (64, 64), 2)
    network = build_model(encoder, "nano")
    network(np.zeros((1, 64, 64, 3), np.uint8))
    Detector(network, encoder, ("cat", "dog"), (1, 2), "letterbox").save(folder, "last")


TARGETS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], bool]] = {
    "coco": (coco_sample, partial(read_all, format="coco"), True),
    "voc": (voc_sample, partial(read_all, format="voc"), True),
    "yolo": (yolo_sample, partial(read_all, format="yolo"), True),
    "labelme": (labelme_sample, partial(read_all, format="labelme"), True),
    "images": (images_sample, read_pixels, True),
    "records": (records_sample, read_records, True),
    "results": (results_sample, read_results, True),
    "run": (run_sample, read_run, False),  # TensorFlow's threads do not survive a fork
}
"""Name -> (writes a sound sample, what is run on it, whether in a process of its own)."""


def failures(target: str, seed: int, count: int, keep: Path | None) -> Iterator[dict[str, Any]]:
    """Yield what went wrong, case by case."""
    write, run, forks = TARGETS[target]
    with tempfile.TemporaryDirectory() as place:
        sample = Path(place)
        write(sample)
        sound = _attempt(run, sample)  # also compiles and imports what every case needs
        assert sound is None, sound
        for number, folder, name in cases(sample, seed, count):
            said = outcome(run, folder) if forks else _attempt(run, folder)
            if said is None:
                continue
            if keep is not None:
                shutil.copytree(folder, keep / f"{target}-{number}", dirs_exist_ok=True)
            yield {"case": number, "file": name, "said": said}


def main() -> int:
    """Run one target and print its failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    found = 0
    for failure in failures(given.target, given.seed, given.count, given.keep):
        found += 1
        print(json.dumps(failure), flush=True)
    return min(found, 1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.path[:] = [
        p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parents[1]
    ]
    sys.exit(main())
