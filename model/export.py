"""`export`: a detector as files for other runtimes, and `load_export`, which runs them.

An export is a folder: `saved_model/`, `model_float32.tflite`, `model_float16.tflite`,
`model_int8.tflite`, `anchors.npy` where there are anchors, `export.json` and `decoder.py` (see
docs/export.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.cores import available_cores
from ytrue.encoders import from_config
from ytrue.encoders.detections import check_numbers
from ytrue.errors import DataError, check_choice
from ytrue.model.exporting import decoder, runtimes
from ytrue.model.exporting.decoding import Decoding, coder_of, decoding_of
from ytrue.model.exporting.graph import Prediction
from ytrue.model.exporting.lite import CONVERTERS
from ytrue.model.exporting.manifest import (
    ANCHORS,
    SAVED_MODEL,
    check_files,
    lite_name,
    read_manifest,
    write_manifest,
)
from ytrue.model.predict import checked_frames, predict_images
from ytrue.normalising import NORMALISATIONS, normalisation_of
from ytrue.resizing import ResizeMode

if TYPE_CHECKING:
    from ytrue.contract import Encoder
    from ytrue.model.predict import Detector
    from ytrue.model.pyramidnet import PyramidNet

Format = Literal["saved_model", "float32", "float16", "int8"]
Precision = Literal["float32", "float16", "int8"]
Runtime = Literal["tflite", "saved_model"]

FORMATS: Final = (SAVED_MODEL, *CONVERTERS)
RUNTIMES: Final = ("tflite", "saved_model")


def export(
    detector: Detector,
    folder: str | Path,
    formats: Sequence[Format] = ("saved_model", "float32", "float16", "int8"),
    representative: Iterable[NDArray[np.uint8]] | None = None,
) -> Path:
    """Write the detector for other runtimes and return the folder.

    Every file takes images (1, height, width, 3) uint8 RGB of the network's input size (the
    SavedModel: any number of them) and returns float32 arrays by name: of a detector of boxes
    {"boxes": (B, A, 4) `(y_min, x_min, y_max, x_max)` pixels of the input, "scores": (B, A, C) in
    [0, 1]}; of others see docs/export.md. Normalisation, decoding and sigmoid are inside,
    non-maximum suppression is not.

    Args:
        detector: a `ytrue.model.Detector`; its model may be folded or not.
        folder: new or empty.
        formats: any of "saved_model" and the TFLite precisions "float32", "float16", "int8".
        representative: for int8, a hundred or so images (height, width, 3) uint8 RGB, fitted into
            the input as the detector will see them: they set the range of every activation.

    Raises:
        ValueError: an argument or a detector's attribute out of range, named with its value.
        DataError: the folder holds something.
    """
    formats = tuple(formats)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"formats={formats}: expected some of {', '.join(FORMATS)}")
    encoder = detector.encoder
    decoding = decoding_of(encoder)
    images = _images(representative, encoder.image_size) if "int8" in formats else []
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("the folder is not empty", where=folder, do="name a new one or empty it")
    model = _for_prediction(detector.model)
    prediction = Prediction(model, decoding.graph(encoder), encoder.image_size)
    one_image = cache(partial(_one_image, model, prediction))
    folder.mkdir(parents=True, exist_ok=True)
    for name in formats:
        if name == SAVED_MODEL:
            _save(prediction, folder / SAVED_MODEL)
            continue
        more = (images,) if name == "int8" else ()
        # In 8 bits features are small, and every sum of parts would be rounded.
        function = one_image(stepwise=name != "int8")
        (folder / lite_name(name)).write_bytes(CONVERTERS[name](function, prediction, *more))
    anchors = decoding.anchors(encoder)
    if anchors is not None:
        np.save(folder / ANCHORS, anchors.grid.boxes)
    shutil.copyfile(decoder.__file__, folder / "decoder.py")
    write_manifest(folder, _content(detector, decoding, formats, len(images)))
    return folder


@dataclass(frozen=True)
class Export:
    """An export that is loaded: call it with images.

    Attributes:
        folder: where it lies.
        runtime: "tflite" or "saved_model".
        precision: of the TFLite file; "float32" for the SavedModel.
        content: of `export.json`.
    """

    folder: Path
    runtime: Runtime
    precision: Precision
    content: dict[str, Any]
    _run: runtimes.Run

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return the exported outputs of images (B, height, width, 3) uint8: float32 by name.

        TFLite takes one image at a time: of several, one after the other.

        Raises:
            ValueError: no images, or images of another shape or dtype.
        """
        frames = checked_frames(images, self.image_size)
        if not len(frames):
            raise ValueError("images: none; expected one at least")
        found = self._run(frames, lambda outputs: {k: x.copy() for k, x in outputs.items()})
        if len(found) == 1:
            return {name: array[None] for name, array in found[0].items()}
        return {name: np.stack([one[name] for one in found]) for name in found[0]}

    def find(self, images: NDArray[np.uint8], **options: Any) -> list[Annotations]:
        """Return the detections of each image, with scores, in its pixels.

        Args:
            images: (B, height, width, 3) uint8 RGB.
            options: of the encoder's `decode`, such as `score_threshold`.
        """
        frames = checked_frames(images, self.image_size)
        decoding = decoding_of(self.encoder)

        def found(outputs: runtimes.Outputs) -> Annotations:
            check_numbers(outputs)
            return decoding.found(self.encoder, outputs, **options)

        return self._run(frames, found) if len(frames) else []

    def predict(
        self,
        images: Iterable[str | Path | NDArray[np.uint8]],
        *,
        batch_size: int = 1,
        **options: Any,
    ) -> list[Annotations]:
        """Return the detections of images of any size, in their own pixels; see `Detector.predict`."""
        return predict_images(self, images, batch_size=batch_size, **options)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, pixels."""
        height, width = self.content["image_size"]
        return height, width

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, by label."""
        return tuple(self.content["classes"])

    @property
    def class_ids(self) -> tuple[int | str, ...]:
        """The ids in the source's files, by label."""
        return tuple(self.content["class_ids"])

    def with_class_ids(self, class_ids: tuple[int | str, ...]) -> Export:
        """Return one whose results are written with other ids of its classes."""
        return replace(self, content=self.content | {"class_ids": list(class_ids)})

    @property
    def landmarks(self) -> tuple[str, ...]:
        """Names of the keypoints of an object, empty where there are none."""
        return tuple(self.content.get("landmarks", ()))

    @property
    def resize(self) -> ResizeMode:
        """How images are fitted into the network's input."""
        mode: ResizeMode = self.content["resize"]
        return mode

    @cached_property
    def encoder(self) -> Encoder:
        """Whose targets the network was trained on."""
        return from_config(self.content["encoder"])


def load_export(
    folder: str | Path,
    runtime: Runtime = "tflite",
    precision: Precision = "float32",
    *,
    digest: str | None = None,
    threads: int | None = None,
) -> Export:
    """Return an exported detector, ready to be called.

    TFLite files run on `ai_edge_litert` where that is installed, otherwise on TensorFlow's own
    interpreter; in both by XNNPACK.

    Args:
        folder: what `export` wrote.
        runtime: "tflite" or "saved_model".
        precision: which TFLite file.
        digest: of the encoder that the outputs are to be read with; None: whatever was exported.
        threads: of TFLite; None: as many as there are cores.

    Raises:
        ValueError: an unknown runtime or precision.
        DataError: no export, files missing or changed, or another encoder's.
    """
    check_choice("runtime", runtime, RUNTIMES)
    check_choice("precision", precision, CONVERTERS)
    if runtime == "saved_model" and precision != "float32":
        raise ValueError(f"precision={precision!r}: the SavedModel is float32")
    folder = Path(folder)
    content = read_manifest(folder)
    if digest is not None and digest != content["digest"]:
        raise DataError(
            f"exported with the encoder of digest {content['digest']}, asked for {digest}",
            where=folder,
            do="read it with the encoder in its export.json, or export again",
        )
    name = f"{SAVED_MODEL}/" if runtime == "saved_model" else lite_name(precision)
    anchors = (ANCHORS,) if ANCHORS in content["files"] else ()
    check_files(folder, content, (*anchors, name))
    run = (
        runtimes.saved_model(folder / SAVED_MODEL)
        if runtime == "saved_model"
        else runtimes.lite(folder / name, available_cores() if threads is None else threads)
    )
    return Export(folder, runtime, precision, content, run)


def _images(
    representative: Iterable[NDArray[np.uint8]] | None, size: tuple[int, int]
) -> list[NDArray[np.uint8]]:
    """Return the images as (1, height, width, 3)."""
    images = [] if representative is None else [np.asarray(image) for image in representative]
    if not images:
        raise ValueError("int8 needs representative images; give some or leave it out of formats")
    for i, image in enumerate(images):
        if image.dtype != np.uint8 or image.shape != (*size, 3):
            raise ValueError(
                f"representative image {i}: {image.shape} {image.dtype}, "
                f"expected ({size[0]}, {size[1]}, 3) uint8"
            )
    return [image[None] for image in images]


def _for_prediction(model: PyramidNet) -> PyramidNet:
    """Return a copy of the model, folded and in float32."""
    config = model.get_config()
    if config["folded"] or config["dtype"] != "float32":
        plain = type(model).from_config({**config, "dtype": "float32"})
        plain.set_weights(model.get_weights())
        model = plain
    folded = model if config["folded"] else model.fold()
    for block in folded.backbone.blocks:
        block.gates_kernel = False  # XNNPACK takes no convolution whose kernel is computed
    return folded


def _one_image(model: PyramidNet, prediction: Prediction, *, stepwise: bool) -> Any:
    """Return the concrete function for XNNPACK, of one image."""
    for block in model.backbone.blocks:
        block.stepwise = stepwise
    return prediction.function(1)


def _save(prediction: Prediction, path: Path) -> None:
    tf.saved_model.save(
        prediction, str(path), signatures={"serving_default": prediction.function(None)}
    )


def _content(
    detector: Detector, decoding: Decoding, formats: Sequence[str], representative: int
) -> dict[str, Any]:
    encoder = detector.encoder
    name = normalisation_of(detector.model.backbone.lite)
    mean, std = NORMALISATIONS[name]
    anchors = decoding.anchors(encoder)
    coder = {} if anchors is None else {"coder": coder_of(anchors)}
    return {
        "ytrue": version("ytrue"),
        "variant": detector.model.variant,
        "image_size": list(encoder.image_size),
        "input": "images: uint8 RGB (1, height, width, 3); the SavedModel takes any number",
        "outputs": dict(decoding.outputs),
        "normalisation": {
            "name": name,
            "mean": list(mean),
            "std": list(std),
            "words": "(pixel - mean) / std for R, G, B; inside every exported file",
        },
        "resize": detector.resize,
        "classes": list(detector.classes),
        "class_ids": list(detector.class_ids),
        "landmarks": list(detector.landmarks),
        "encoder": encoder.config(),
        "digest": encoder.digest,
        "formats": list(formats),
        "representative_images": representative,
        **coder,
    }
