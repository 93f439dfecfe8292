"""Small datasets on disk, for tests of readers."""

import json

import numpy as np
from PIL import Image


def image(path, height=40, width=60, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(height * 1000 + width)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path, **options)
    return path


def coco(folder, annotations, *, images=None, categories=None, write_images=True, **top):
    """A COCO file of one 40 x 60 image (id 1) unless told otherwise."""
    images = images or [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}]
    categories = categories or [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    records = []
    for k, fields in enumerate(annotations):
        record = {"id": 100 + k, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 1.0}
        record |= fields
        records.append({key: value for key, value in record.items() if value != "absent"})
    content = {"images": images, "annotations": records, "categories": categories} | top
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data.json"
    file.write_text(json.dumps(content))
    if write_images:
        for record in images:
            if "/" not in record["file_name"]:
                image(folder / record["file_name"], record["height"], record["width"])
    return file


def voc(file, objects, *, size=(40, 60), name=None):
    rows = "".join(
        f"<object><name>{n}</name><difficult>{d}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for n, b, d in objects
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><filename>{name or file.stem + '.jpg'}</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height></size>{rows}</annotation>"
    )
    return file
