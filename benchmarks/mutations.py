"""Small mutations of the code, and which of them the tests notice.

`python benchmarks/mutations.py --count 60 --seed 1` draws places in kernels, coders, losses, readers,
placement and decoders, changes one token of each (a bound, a sign, an axis, any for all, min for max, a
half), and runs the tests of that file in a copy of the sources. `--only WORD` narrows the files, `--at
FILE:LINE` takes the mutations of one line. A mutation that survives wants a test, or changes nothing.
"""

from __future__ import annotations

import argparse
import io
import keyword
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("ytrue", "encoders", "datasets", "model", "viz")

# The files that are mutated, and the tests that are theirs. Kernels run as plain Python: compiling a
# whole family anew takes longer than few examples without.
TESTS: Final = {
    "encoders/kernels/matching.py": "test_matching.py",
    "encoders/kernels/claims.py": "test_matching.py",
    "encoders/kernels/windows.py": "test_matching.py",
    "encoders/kernels/crowding.py": "test_matching.py",
    "encoders/kernels/overlap.py": "test_matching.py",
    "encoders/kernels/nearest.py": "test_matching.py",
    "encoders/kernels/integrals.py": "test_matching.py",
    "encoders/kernels/coding.py": "test_matching.py test_encoder.py",
    "encoders/kernels/objects.py": "test_matching.py test_yolo.py",
    "encoders/kernels/lattice.py": "test_matching.py",
    "encoders/kernels/yolo.py": "test_yolo.py",
    "encoders/kernels/fcos.py": "test_fcos.py",
    "encoders/kernels/centernet.py": "test_centernet.py",
    "encoders/kernels/keypoints.py": "test_keypoints.py",
    "encoders/kernels/cells.py": "test_keypoints.py test_yolo.py",
    "encoders/kernels/cellcentres.py": "test_fcos.py test_centernet.py",
    "encoders/kernels/polygons.py": "test_polygon.py",
    "encoders/kernels/contours.py": "test_polygon.py",
    "encoders/kernels/rasters.py": "test_mask.py",
    "encoders/kernels/suppression.py": "test_detections.py test_candidates.py",
    "encoders/kernels/candidates.py": "test_candidates.py",
    "encoders/kernels/peaks.py": "test_centernet.py",
    "encoders/kernels/assembly.py": "test_pose.py",
    "ytrue/crossings.py": "test_mask.py",
    "encoders/coders.py": "test_encoder.py test_matching.py",
    "encoders/detections.py": "test_detections.py test_candidates.py",
    "ytrue/resizing.py": "test_placement.py test_annotations.py",
    "ytrue/cutting.py": "test_placement.py",
    "ytrue/rle.py": "test_rle.py test_annotations.py test_mask.py",
    "ytrue/auditing.py": "test_auditing.py",
    "datasets/vetting.py": "test_vetting.py test_formats_more.py",
    "datasets/coco.py": "test_cocoodd.py test_coco.py",
    "datasets/cocojson.py": "test_cocojson.py test_coco.py",
    "datasets/cococolumns.py": "test_cocoodd.py test_coco.py",
    "datasets/cocofolder.py": "test_cocofolder.py",
    "datasets/merging.py": "test_cocofolder.py",
    "datasets/skeletons.py": "test_skeletons.py",
    "datasets/splits.py": "test_splits.py test_yolo_files.py",
    "datasets/yolo.py": "test_yolo_files.py test_formats_more.py",
    "datasets/yolorows.py": "test_yolo_files.py test_formats_more.py",
    "datasets/yoloyaml.py": "test_yolo_files.py",
    "datasets/yolonames.py": "test_yolo_files.py",
    "datasets/yolosplits.py": "test_yolo_files.py",
    "datasets/yololayout.py": "test_yolo_files.py",
    "datasets/voc.py": "test_voc_files.py test_formats_more.py",
    "datasets/imagesets.py": "test_voc_files.py",
    "datasets/pairing.py": "test_voc_files.py test_yolo_files.py",
    "datasets/labelme.py": "test_labelme.py test_formats_more.py",
    "datasets/labelmeshapes.py": "test_labelme.py",
    "datasets/greys.py": "test_pixels.py",
    "datasets/imagefiles.py": "test_imagefiles.py",
    "model/losses/focal.py": "test_losses.py",
    "model/losses/boxes.py": "test_losses.py",
    "model/losses/detection.py": "test_losses.py",
    "model/losses/yolo.py": "test_yolo_loss.py",
    "model/losses/fcos.py": "test_fcos_loss.py",
    "model/losses/centernet.py": "test_center_loss.py",
    "model/losses/keypoints.py": "test_keypoint_loss.py",
    "model/losses/masks.py": "test_mask_loss.py",
    "model/exporting/decoder.py": "test_export.py test_export_kinds.py",
    "model/exporting/decoding.py": "test_export.py test_export_kinds.py",
}

SWAPS: Final = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+",
    "and": "or", "or": "and", "min": "max", "max": "min", "any": "all", "all": "any",
    "minimum": "maximum", "maximum": "minimum", "True": "False", "False": "True",
    "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor",
    "0.5": "0.0", "HALF": "ONE", "height": "width", "width": "height",
}  # fmt: skip
AXES: Final = {"0": "1", "1": "0", "2": "3", "3": "2"}


class Mutation(NamedTuple):
    """One token of a file, and what stands there instead."""

    file: str
    line: int
    column: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column + 1} {self.old!r} -> {self.new!r}"


def mutations_of(file: str) -> list[Mutation]:
    """Return every mutation of a file; strings, comments, imports and signatures have none."""
    tokens = list(tokenize.generate_tokens(io.StringIO((ROOT / file).read_text()).readline))
    found, skipping, begins, depth = [], False, True, 0
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if before.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.NL):
            begins = before.type != tokenize.NL or begins
        if begins and token.type in (tokenize.NAME, tokenize.OP):
            skipping = token.string in ("import", "from", "def", "class", "@", "raise", "assert")
            begins, depth = False, 0
        if token.type == tokenize.NEWLINE:
            begins, skipping = True, False
        depth += (token.string == "[") - (token.string == "]")
        new = AXES.get(token.string) if _is_axis(before, token, after, depth) else None
        new = new or SWAPS.get(token.string)
        if new is None or skipping or _is_sign(before, token) or _is_name(before, token, after):
            continue
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
            found.append(Mutation(file, *token.start, token.string, new))
    return found


def _is_axis(before, token, after, depth) -> bool:
    return (
        token.type == tokenize.NUMBER
        and depth > 0
        and before.string in ",["
        and after.string == "]"
    )


def _is_sign(before, token) -> bool:
    """Return whether a + or - has nothing before it: a sign mutated is a constant mutated."""
    operand = before.type in (tokenize.NAME, tokenize.NUMBER) or before.string in (")", "]")
    return token.string in "+-" and (not operand or keyword.iskeyword(before.string))


def _is_name(before, token, after) -> bool:
    """Return whether a side is the name of an argument or target, not a value."""
    return token.string in ("height", "width") and (
        before.string == "." or after.string in ("=", ":", ".") or before.string == ","
    )


class Copy:
    """The sources laid out as they are installed, beside their tests."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        self.said = "they took too long"
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for name in listed:
            if (ROOT / name).is_file():
                self.path(name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.path(name))

    def path(self, name: str) -> Path:
        """Return where a file of the repository lies in the copy."""
        top, _, rest = name.partition("/")
        if top not in FOLDERS or not rest:
            return self.folder / "checkout" / name
        return self.site / "ytrue" / (rest if top == "ytrue" else name)

    def passes(self, file: str, limit: float) -> bool | None:
        """Return whether the tests of a file pass; None where they take longer than `limit`."""
        environment = os.environ | {
            "PYTHONPATH": str(self.site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "YTRUE_EXAMPLES": "25",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "YTRUE_SHARED": os.environ.get("YTRUE_SHARED", str(ROOT.parent / "shared")),
        }
        if "kernels" in file or file == "ytrue/crossings.py":
            environment["NUMBA_DISABLE_JIT"] = "1"
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        skipped = "not process and not crowded and not reserve_as_the_dense and not threads"
        # Without compilation NumPy warns of an infinite bound; kernels do not.
        plain = ["-k", skipped, "-W", "ignore::RuntimeWarning"]
        command += plain if "NUMBA_DISABLE_JIT" in environment else []
        command += [f"tests/{name}" for name in TESTS[file].split()]
        try:
            done = subprocess.run(
                command, cwd=self.folder / "checkout", env=environment, capture_output=True,
                timeout=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        self.said = done.stdout.decode(errors="replace")[-2000:]
        return done.returncode == 0

    def survives(self, mutation: Mutation, limit: float) -> bool:
        """Return whether the tests pass with a mutation; a hang is noticed, too."""
        path = self.path(mutation.file)
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        line, end = lines[mutation.line - 1], mutation.column + len(mutation.old)
        assert line[mutation.column : end] == mutation.old
        lines[mutation.line - 1] = line[: mutation.column] + mutation.new + line[end:]
        path.write_text("".join(lines))
        try:
            return self.passes(mutation.file, limit) is True
        finally:
            path.write_text(text)


def drawn(options: argparse.Namespace) -> list[Mutation]:
    files = [file for file in TESTS if options.only in file and (ROOT / file).is_file()]
    if options.at:
        file, line = options.at.rsplit(":", 1)
        return [one for one in mutations_of(file) if one.line == int(line)]
    chance = random.Random(options.seed)
    each = {file: mutations_of(file) for file in files}
    # Files first, so that long ones do not have them all.
    chosen: list[Mutation] = []
    while len(chosen) < options.count and any(each.values()):
        file = chance.choice([file for file in files if each[file]])
        chosen.append(each[file].pop(chance.randrange(len(each[file]))))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="of the files, those with this in their path")
    parser.add_argument("--at", help="FILE:LINE, all mutations of one line")
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds for the tests of a file"
    )
    options = parser.parse_args()
    chosen, survivors, sound = drawn(options), [], {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for mutation in sorted(chosen):
            if mutation.file not in sound:
                start = time.monotonic()
                sound[mutation.file] = copy.passes(mutation.file, options.timeout)
                took = time.monotonic() - start
                print(f"{mutation.file}: its tests take {took:.0f} s", flush=True)
            if not sound[mutation.file]:
                print(f"not tried, as its tests fail without it: {mutation}", flush=True)
                continue
            survived = copy.survives(mutation, options.timeout)
            survivors += [mutation] * survived
            print("SURVIVED" if survived else "killed  ", mutation, flush=True)
    print(f"{len(survivors)} of {len(chosen)} survived")


if __name__ == "__main__":
    main()
