"""VOC's average precision, plainly: VOCevaldet.m of the VOC development kit, line by line.

Objects and detections are tuples; boxes x_min, y_min, x_max, y_max, continuous (the kit's pixels
count from 1 and include the last: its `+ 1` is in the conversion of the file).
"""


def average_precision(objects, detections, *, min_overlap=0.5):
    """Return (area under the curve, 11 points) of one class, None where nothing is wanted.

    objects: (image, box, difficult); detections: (image, box, score).
    """
    wanted = sum(not difficult for _, _, difficult in objects)
    if wanted == 0:
        return None
    taken = [False] * len(objects)
    hits = misses = 0
    recall, precision = [], []
    for image, box, _ in sorted(detections, key=lambda found: -found[2]):
        best, match = float("-inf"), None
        for j, (other_image, other, _) in enumerate(objects):
            if other_image != image:
                continue
            overlap = iou(box, other)
            if overlap is not None and overlap > best:
                best, match = overlap, j
        if best >= min_overlap:
            if objects[match][2]:
                pass
            elif not taken[match]:
                hits += 1
                taken[match] = True
            else:
                misses += 1
        else:
            misses += 1
        if hits + misses:
            recall.append(hits / wanted)
            precision.append(hits / (hits + misses))
    return area(recall, precision), points(recall, precision)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return None
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def area(recall, precision):
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum(
        (recall[i] - recall[i - 1]) * precision[i]
        for i in range(1, len(recall))
        if recall[i] != recall[i - 1]
    )


def points(recall, precision):
    total = 0.0
    for tenth in range(11):
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= tenth / 10]
        total += max(reached, default=0.0) / 11
    return total
