"""Who may import whom, read from the source; and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "ytrue": "ytrue",
    "encoders": "ytrue.encoders",
    "datasets": "ytrue.datasets",
    "model": "ytrue.model",
    "viz": "ytrue.viz",
}
VOCABULARY = (
    "annotations",
    "boxes",
    "contract",
    "cores",
    "cutting",
    "errors",
    "normalising",
    "resizing",
    "rle",
)


def modules():
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((package, *(p for p in parts if p != "__init__"))), path


def imports(path, *, everywhere):
    """Imported module names; `everywhere`: also those inside functions and TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def uses(names, package):
    return any(name == package or name.startswith(package + ".") for name in names)


ALL = list(modules())


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_imports_point_one_way(name, path):
    found = imports(path, everywhere=True)
    top = imports(path, everywhere=False)
    part = name.removeprefix("ytrue.").split(".")[0]
    assert not uses(found, "datasets")
    assert not uses(found, "encoders")
    if part in VOCABULARY:
        ours = {n.split(".")[1] for n in found if n.startswith("ytrue.")}
        assert ours <= {*VOCABULARY, "notebook"}
        assert not uses(found, "numba")
    if part == "encoders":
        assert not uses(found, "ytrue.datasets")
        assert not uses(found, "tensorflow")
        assert not uses(found, "keras")
    if name.startswith("ytrue.encoders.kernels"):
        outside = {n.split(".")[0] for n in top} - {"__future__", "typing", "math", "ytrue"}
        assert outside <= {"numba", "numpy"}
        ours = {n for n in top if n.startswith("ytrue") and not uses({n}, "ytrue.jit")}
        assert all(n.startswith("ytrue.encoders.kernels") for n in ours)
    if part == "datasets":
        assert not uses(found, "ytrue.encoders")
    if part not in ("viz", "cli", "notebook"):
        assert not uses(found, "ytrue.viz")
        assert not uses(found, "matplotlib")
        assert not uses(found, "rich")
    if part not in ("cli", "__main__"):
        assert not uses(found, "ytrue.cli")
    if part != "model" and part != "cli" and name != "ytrue.datasets.tfdata":
        assert not uses(found, "tensorflow")
        assert not uses(found, "keras")
    if part != "model":
        assert not uses(top, "tensorflow")
    meeting = (
        "training",
        "predict",
        "evaluate",
        "evaluatepoints",
        "evaluatemasks",
        "evaluating",
        "export",
        "decoding",
        "tasks",
    )
    if name.startswith("ytrue.model.evaluat"):
        assert not uses(found, "tensorflow")
        assert not uses(found, "keras")
    if part == "model" and not any(place in meeting for place in name.split(".")):
        assert not uses(found, "ytrue.encoders")
        assert not uses(found, "ytrue.datasets")


def loaded(code):
    probe = (
        f"{code}\nimport sys\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'numba', 'cv2', 'albumentations', 'datasets', "
        "'encoders'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_imports_are_light():
    assert loaded("import ytrue") == "[]"
    assert loaded("import ytrue; ytrue.Annotations") == "[]"
    assert loaded("import ytrue.datasets; ytrue.datasets.load") == "[]"
    assert loaded("import ytrue.encoders") == "['numba']"
    assert loaded("from ytrue.viz import print_dataset, print_problems") == "[]"
    assert loaded("import ytrue.model.evaluate") == "[]"
    assert loaded("import ytrue.model.evaluatepoints") == "[]"


def test_this_test_would_see_a_heavy_import():
    assert "matplotlib" in loaded("import ytrue.viz.figures")


def test_public_names_resolve_to_one_thing_every_time():
    import ytrue
    import ytrue.datasets
    import ytrue.model

    for package in (ytrue, ytrue.datasets, ytrue.model):
        for name in package.__all__:
            assert getattr(package, name) is getattr(package, name)
            assert not hasattr(getattr(package, name), "__path__")
    assert callable(ytrue.audit)
    assert callable(ytrue.audit)
    assert set(ytrue.__all__) <= set(dir(ytrue))
    with pytest.raises(AttributeError, match="module 'ytrue' has no attribute 'nope'"):
        _ = ytrue.nope
