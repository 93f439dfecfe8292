"""Datasets made of examples in memory, and what a pipeline makes of them, without TensorFlow."""

import io

from PIL import Image

from ytrue import Example
from ytrue.datasets.augment import as_augment
from ytrue.datasets.tfdata import BatchMaker, Report


class Made:
    """Examples without files: their images are grey."""

    classes = ("thing",)
    keypoint_flips = ((0, 1),)

    def __init__(self, *examples, num_classes=1):
        self.examples, self.num_classes = examples, num_classes
        self.store = self

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]

    def image_bytes(self, image_id):
        (example,) = (one for one in self.examples if one.image_id == image_id)
        data = io.BytesIO()
        Image.new("RGB", (example.width, example.height), (90, 90, 90)).save(data, "PNG")
        return data.getvalue()


def example(height, width, annotations, image_id=0):
    return Example(image_id, "made.png", height, width, annotations)


def taught(dataset, encoder, *, augment=None, resize="letterbox", count=1, workers=2):
    """Return the first batch's targets as the pipeline makes them."""
    maker = BatchMaker(
        dataset, encoder, count, as_augment(augment), False, 0, resize, "raise", (0, 1), False,
        (0, 0, 0), workers, Report(),
    )  # fmt: skip
    return dict(zip(encoder.spec, maker.arrays(0)[1:], strict=True))
