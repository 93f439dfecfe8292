"""Loading a large COCO file against pycocotools: time and peak memory, each in its own process.

python benchmarks/load.py                       # 1,000,000 annotations, about 270 MB
python benchmarks/load.py --annotations 50000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from timing import machine, table

OURS = "import ytrue; dataset = ytrue.datasets.load(path); count = dataset.num_objects"
THEIRS = "from pycocotools.coco import COCO; coco = COCO(path); count = len(coco.anns)"
PROBE = """
import json, resource, sys, time
path = sys.argv[1]
start = time.perf_counter()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.perf_counter() - start, peak, count]))
"""


def write(path: Path, annotations: int) -> None:
    """Write boxes with a polygon of 5 to 12 points each, as COCO has them, 8 to an image."""
    rng = np.random.default_rng(0)
    images = max(1, annotations // 8)
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for i in range(images):
            record = {"id": i + 1, "file_name": f"{i + 1:012d}.jpg", "height": 480, "width": 640}
            file.write((", " if i else "") + json.dumps(record))
        file.write('], "annotations": [')
        for k in range(annotations):
            count = int(rng.integers(5, 13))
            x, y = rng.uniform(0, 500), rng.uniform(0, 350)
            w, h = rng.uniform(5, 139), rng.uniform(5, 129)
            points = (rng.random((count, 2)) * (w, h) + (x, y)).round(2)
            record = {
                "segmentation": [points.ravel().tolist()], "area": round(w * h, 4), "iscrowd": 0,
                "image_id": int(rng.integers(images)) + 1,
                "bbox": [round(x, 2), round(y, 2), round(w, 2), round(h, 2)],
                "category_id": int(rng.integers(80)) + 1, "id": k + 1,
            }  # fmt: skip
            file.write((", " if k else "") + json.dumps(record))
        categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(80)]
        file.write('], "categories": ' + json.dumps(categories) + "}")


def run(code: str, path: Path) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE.format(code=code), str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return tuple(json.loads(done.stdout.strip().splitlines()[-1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine("numpy", "msgspec", "pycocotools"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        write(path, options.annotations)
        print(
            f"\n{options.annotations:,} annotations, {path.stat().st_size / 1e6:.0f} MB; medians of {options.rounds}\n"
        )
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(run(OURS, path))
            theirs.append(run(THEIRS, path))
    (our_time, our_peak), (their_time, their_peak) = (
        np.median([row[:2] for row in rows], axis=0) for rows in (ours, theirs)
    )
    assert ours[0][2] == theirs[0][2] == options.annotations
    rows = [
        ("ytrue.datasets.load", f"{our_time:.2f}", f"{our_peak:.0f}"),
        ("pycocotools.coco.COCO", f"{their_time:.2f}", f"{their_peak:.0f}"),
        (
            "ratio",
            f"{their_time / our_time:.1f} times faster",
            f"{our_peak / their_peak:.2f} of the memory",
        ),
    ]
    print(table(("reader", "seconds, start to end", "peak memory, MB"), rows))


if __name__ == "__main__":
    main()
