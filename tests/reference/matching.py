"""DESIGN's matching rules 1 to 6 on full anchors x objects matrices, in plain NumPy."""

import numpy as np


def iou_matrix(boxes, anchors, epsilon=0.0):
    """(N, A) IoU in the anchors' dtype."""
    dtype = anchors.dtype.type
    boxes = boxes.astype(anchors.dtype)[:, None]  # (N, 1, 4)
    anchors = anchors[None]  # (1, A, 4)
    height = np.minimum(anchors[..., 2], boxes[..., 2]) - np.maximum(anchors[..., 0], boxes[..., 0])
    width = np.minimum(anchors[..., 3], boxes[..., 3]) - np.maximum(anchors[..., 1], boxes[..., 1])
    shared = np.where((height > 0) & (width > 0), height * width, dtype(0))

    def area(b):
        return (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])

    union = area(anchors) + area(boxes) - shared + dtype(epsilon)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def mask_overlap(mask, anchors):
    """(A,) area of set pixels inside each anchor, pixel by pixel."""
    height, width = mask.shape
    out = np.zeros(len(anchors))
    for i, (y_min, x_min, y_max, x_max) in enumerate(anchors.astype(np.float64)):
        rows = np.clip(
            np.minimum(y_max, np.arange(height) + 1) - np.maximum(y_min, np.arange(height)), 0, 1
        )
        columns = np.clip(
            np.minimum(x_max, np.arange(width) + 1) - np.maximum(x_min, np.arange(width)), 0, 1
        )
        out[i] = rows @ mask @ columns
    return out


def kinds(encoder, annotations):
    """N words: match, crowd, no-area, not-finite, outside."""
    height, width = encoder.image_size
    out = []
    for box, crowd in zip(annotations.boxes, annotations.crowd, strict=True):
        if not np.isfinite(box).all():
            out.append("not-finite")
        elif crowd:
            out.append("crowd")
        elif encoder.degenerate == "match":
            out.append("match")
        elif not (box[2] > box[0] and box[3] > box[1]):
            out.append("no-area")
        elif box[2] <= 0 or box[3] <= 0 or box[0] >= height or box[1] >= width:
            out.append("outside")
        else:
            out.append("match")
    return out


def greedy_reservations(iou, min_force_iou):
    """{object: anchor}: all pairs by falling IoU, lower object, lower anchor."""
    objects, anchors = np.nonzero(iou > min_force_iou)
    order = np.lexsort((anchors, objects, -iou[objects, anchors].astype(np.float64)))
    taken_objects, taken_anchors, out = set(), set(), {}
    for k, a in zip(objects[order], anchors[order], strict=True):
        if k not in taken_objects and a not in taken_anchors:
            taken_objects.add(k)
            taken_anchors.add(a)
            out[int(k)] = int(a)
    return out


def argmax_reservations(iou, matchable, min_force_iou):
    out, taken = {}, set()
    for k in np.flatnonzero(matchable):
        a = int(iou[k].argmax())
        if iou[k, a] > min_force_iou and a not in taken:
            taken.add(a)
            out[int(k)] = a
    return out


def encode_boxes(coder, boxes, anchors):
    """(P, 4) offsets of boxes (P, 4) relative to anchors (P, 4)."""
    dtype = anchors.dtype.type
    boxes, std = boxes.astype(anchors.dtype), np.array(coder.std, anchors.dtype)
    side_a = anchors[:, 2:] - anchors[:, :2]
    if coder.kind == "corner":
        offsets = (boxes - anchors) / np.tile(side_a, 2) / std
        return offsets.astype(np.float32)
    side = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + side * dtype(0.5)) - (anchors[:, :2] + side_a * dtype(0.5))
    side, side_a = np.maximum(side, dtype(coder.epsilon)), np.maximum(side_a, dtype(coder.epsilon))
    logs = np.log((side / side_a).astype(np.float64)) / std[2:]
    return np.concatenate((shift / side_a / std[:2], logs), axis=1).astype(np.float32)


def padded(grid, content):
    """(A,) bool: anchors centred outside the content."""
    out = []
    for (rows, columns), (sy, sx), shapes in zip(
        grid.cells, grid.strides, grid.anchor_shapes, strict=True
    ):
        y = (np.arange(rows) + grid.cell_offset) * sy
        x = (np.arange(columns) + grid.cell_offset) * sx
        in_y = (y >= content[0]) & (y < content[2])
        in_x = (x >= content[1]) & (x < content[3])
        inside = in_y[:, None] & in_x[None]
        out.append(np.repeat(~inside.ravel(), len(shapes)))
    return np.concatenate(out)


def nearest_candidates(encoder, box):
    """Of each level (anchors (K, slots) of the nearest cells by rising index, is centred in the box)."""
    grid, out = encoder.grid, []
    y_min, x_min, y_max, x_max = box.astype(np.float64)
    centre_y, centre_x = y_min + 0.5 * (y_max - y_min), x_min + 0.5 * (x_max - x_min)
    for first, (rows, columns), (sy, sx), shapes in zip(
        grid.level_offsets, grid.cells, grid.strides, grid.anchor_shapes, strict=False
    ):
        y = np.repeat((np.arange(rows) + grid.cell_offset) * sy, columns)
        x = np.tile((np.arange(columns) + grid.cell_offset) * sx, rows)
        distance = (y - centre_y) ** 2 + (x - centre_x) ** 2
        cells = np.sort(np.argsort(distance, kind="stable")[: encoder.top_k])
        inside = (y > y_min) & (y < y_max) & (x > x_min) & (x < x_max)
        anchors = first + cells[:, None] * len(shapes) + np.arange(len(shapes))
        out.append((anchors, inside[cells]))
    return out


def atss_claims(encoder, box, iou):
    """(A,) bool: anchors that one object asks for; iou (A,) with it."""
    candidates = nearest_candidates(encoder, box)
    anchors = np.concatenate([anchors.ravel() for anchors, _ in candidates])
    slots = [anchors.shape[1] for anchors, _ in candidates]
    inside = np.concatenate([np.repeat(i, n) for (_, i), n in zip(candidates, slots, strict=True)])
    overlaps = iou[anchors].astype(np.float64)
    # One after another, as the kernel adds: np.sum would add in pairs.
    mean = np.cumsum(overlaps)[-1] / len(overlaps)
    squares = np.cumsum((overlaps - mean) ** 2)[-1]
    threshold = mean + np.sqrt(squares / max(len(overlaps) - 1, 1))
    claims = np.zeros(len(iou), bool)
    claims[anchors[inside & (overlaps >= threshold)]] = True
    return claims


def center_claims(encoder, box):
    """Two (A,) bool: anchors that one object asks for, and those of middling shape."""
    height, width = (box[2:] - box[:2].astype(np.float64)).tolist()
    fits = []
    for shapes in encoder.grid.anchor_shapes:
        shared = [min(height, tall) * min(width, wide) for tall, wide in shapes]
        fits.append([
            one / (height * width + tall * wide - one)
            for one, (tall, wide) in zip(shared, shapes, strict=True)
        ])  # fmt: skip
    best = max(max(level) for level in fits)
    number = encoder.grid.boxes.dtype.type
    claims, middling = np.zeros(len(encoder.grid), bool), np.zeros(len(encoder.grid), bool)
    for (anchors, inside), level in zip(nearest_candidates(encoder, box), fits, strict=True):
        for slot, fit in enumerate(level):
            if fit >= min(best, float(number(encoder.positive_iou))):
                claims[anchors[inside, slot]] = True
            elif fit >= min(best, float(number(encoder.negative_iou))):
                middling[anchors[inside, slot]] = True
    return claims, middling


def encode(encoder, annotations):
    """The target of one example, and the objects' (positives, forced, best IoU)."""
    anchors, n, total = encoder.grid.boxes, len(annotations), len(encoder.grid)
    number = anchors.dtype.type
    kind = np.array(kinds(encoder, annotations), dtype=object)
    matchable = kind == "match"
    finite = np.where(np.isfinite(annotations.boxes), annotations.boxes, 0)
    iou = iou_matrix(finite, anchors, encoder.union_epsilon)
    iou[~matchable] = 0
    claims, middling = iou >= number(encoder.positive_iou), iou >= number(encoder.negative_iou)
    if encoder.matcher != "iou":
        claims, middling = np.zeros((n, total), bool), np.zeros((n, total), bool)
        has_extent = (finite[:, 2] > finite[:, 0]) & (finite[:, 3] > finite[:, 1])
        for k in np.flatnonzero(matchable & has_extent):
            box = finite[k].astype(anchors.dtype)
            if encoder.matcher == "atss":
                claims[k] = atss_claims(encoder, box, iou[k])
            else:
                claims[k], middling[k] = center_claims(encoder, box)
    state = np.zeros(total, np.int8)
    state[middling.any(axis=0)] = -1
    state[claims.any(axis=0)] = 1
    # An IoU of 0 with an own anchor comes from rounding alone, and still is a claim.
    owner = np.where(claims, iou, -1).argmax(axis=0) if n else np.zeros(total, int)
    owner = np.where(state == 1, owner, -1)
    merit = owner.copy()
    if encoder.force == "greedy":
        reserved = greedy_reservations(iou, number(encoder.min_force_iou))
    elif encoder.force == "argmax":
        reserved = argmax_reservations(iou, matchable, number(encoder.min_force_iou))
    else:
        reserved = {}
    for k, a in reserved.items():
        state[a], owner[a] = 1, k
    if encoder.crowd == "ignore":
        area = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
        for k in np.flatnonzero(kind == "crowd"):
            mask = annotations.masks[k] if annotations.masks is not None else None
            if mask is None:
                box = annotations.boxes[k].astype(anchors.dtype)
                h = np.minimum(anchors[:, 2], box[2]) - np.maximum(anchors[:, 0], box[0])
                w = np.minimum(anchors[:, 3], box[3]) - np.maximum(anchors[:, 1], box[1])
                share = np.where((h > 0) & (w > 0), h * w, number(0)) / area
                covered = share >= number(encoder.crowd_ioa)
            else:
                wide = anchors.astype(np.float64)
                wide_area = (wide[:, 2] - wide[:, 0]) * (wide[:, 3] - wide[:, 1])
                share = mask_overlap(mask.decode(), wide) / wide_area
                covered = share >= float(number(encoder.crowd_ioa)) * (1 - 1e-9)
            state[covered & (state != 1)] = -1
    if encoder.padding != "negative":
        outside = padded(encoder.grid, annotations.content or (0, 0, *encoder.image_size))
        state[outside & ((state != 1) | (encoder.padding == "ignore-positive"))] = -1
        owner[state != 1] = -1
    positive = np.flatnonzero(state == 1)
    label = np.full(total, -1, np.int32)
    label[positive] = annotations.labels[owner[positive]]
    box = np.zeros((total, 4), np.float32)
    box[positive] = encode_boxes(
        encoder.coder, annotations.boxes[owner[positive]], anchors[positive]
    )
    target = {"state": state, "label": label, "box": box, "object": owner.astype(np.int32)}
    counts = np.bincount(owner[positive], minlength=n)
    forced = np.array([int(k in reserved and merit[reserved[k]] != k) for k in range(n)], int)
    return target, {"positives": counts, "forced": forced, "best_iou": iou.max(axis=1, initial=0)}
