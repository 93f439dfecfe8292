"""No damaged file ends in anything but one sentence: a fixed seed, each case in its own process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZING = Path(__file__).with_name("fuzzing.py")
COUNTS = {
    "coco": 600, "voc": 600, "yolo": 600, "labelme": 600, "images": 600, "records": 400,
    "results": 400, "run": 60,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", COUNTS)
def test_damaged_files_end_in_one_sentence(target):
    command = [sys.executable, str(FUZZING), target, "--count", str(COUNTS[target]), "--seed", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = [json.loads(line) for line in result.stdout.splitlines()]
    assert not failed, "\n".join(f"{f['case']} {f['file']}: {f['said']}" for f in failed[:5])
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_harness_sees_exceptions_deaths_and_hangs(monkeypatch):
    import os

    import fuzzing

    def fails(folder):
        raise KeyError(folder)

    monkeypatch.setattr(fuzzing, "SECONDS", 0.3)
    assert "KeyError" in fuzzing.outcome(fails, Path("x"))
    assert fuzzing.outcome(lambda _: os.kill(os.getpid(), 11), Path("x")) == "died of signal 11"
    assert (
        fuzzing.outcome(lambda _: fuzzing.time.sleep(60), Path("x")) == "still running after 0.3 s"
    )
    assert fuzzing.outcome(lambda _: None, Path("x")) is None
