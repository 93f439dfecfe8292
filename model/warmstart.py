"""Weights of one's own run as the start of another: other data, other classes, another task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ytrue.errors import DataError
from ytrue.model.predict import RUN_FILE, Detector, run_model

if TYPE_CHECKING:
    from ytrue.model.pyramidnet import PyramidNet

END = ".weights.h5"


def own_run(path: str | Path) -> tuple[Path, str | None] | None:
    """Return the folder of a run and which of its weights are meant (None: the best).

    Args:
        path: a run's folder, or one of its `.weights.h5`.

    Returns:
        None where the path is of no run of `train`.
    """
    path = Path(path)
    if (path / RUN_FILE).is_file():
        return path, None
    if path.name.endswith(END) and (path.parent / RUN_FILE).is_file():
        return path.parent, path.name.removesuffix(END)
    return None


def start_from(
    model: PyramidNet,
    run: tuple[Path, str | None],
    classes: Sequence[str],
    landmarks: Sequence[str],
) -> list[str]:
    """Give the model the weights of a run, and say in sentences what starts anew.

    The backbone is that of the run, and so is a pyramid of the same levels. Of the heads what tells
    classes (or landmarks) starts anew where those of the run are others, and all of a head that the
    run does not have.

    Args:
        model: untrained.
        run: of `own_run`.
        classes, landmarks: what the model is to tell.

    Raises:
        DataError: no such weights, or the run's network is of another variant.
    """
    folder, weights = run
    source = Detector.load(folder, weights)
    if source.model.variant != model.variant:
        raise DataError(
            f"the run's network is {source.model.variant}, not {model.variant}",
            where=folder / RUN_FILE, do=f"train with --model {source.model.variant}",
        )  # fmt: skip
    _copy(source.model.backbone.weights, model.backbone.weights)
    said = []
    if len(source.model.pyramid.weights) == len(model.pyramid.weights):
        _copy(source.model.pyramid.weights, model.pyramid.weights)
    else:
        said.append(f"the pyramid starts anew: that of the run in {folder} is of other levels")
    for name, head in model.heads.items():
        theirs: Any = source.model.heads.get(name)
        if type(theirs) is not type(head) or len(theirs.weights) != len(head.weights):
            said.append(f"all of the head {name} starts anew: the run in {folder} has none such")
            continue
        told, known = tuple(classes), source.classes
        if model.head_settings[name]["kind"] == "keypoint-grid":  # of landmarks, of classes or both
            told, known = (*told, *landmarks), (*known, *source.landmarks)
        renamed = told != known
        changing = _telling_classes(model, name) if renamed else set[int]()
        new = _copy(theirs.weights, head.weights, changing)
        if new:
            whose = "of the run are others" if renamed else "have another shape in the run"
            said.append(
                f"the class output of the head {name} ({', '.join(new)}) starts anew: the classes "
                f"{whose} ({', '.join(known)})"
            )
    return said


def _copy(source: list[Any], model: list[Any], anew: set[int] | None = None) -> list[str]:
    """Assign weights by place; return the names of those that stay: of places, or other shapes."""
    left = []
    for place, (theirs, ours) in enumerate(zip(source, model, strict=True)):
        if place in (anew or ()) or theirs.shape != ours.shape:
            left.append(ours.name)
        else:
            ours.assign(theirs)
    return left


def _telling_classes(model: PyramidNet, head: str) -> set[int]:
    """Return the places of a head's weights whose shape the number of classes decides."""
    config = model.get_config()
    heads = {name: dict(own) for name, own in model.head_settings.items()}
    heads[head]["num_classes"] += 1
    other = run_model("PyramidNet", {"variant": config["variant"], "heads": heads})
    pairs = zip(model.heads[head].weights, other.heads[head].weights, strict=True)
    return {place for place, (one, more) in enumerate(pairs) if one.shape != more.shape}
