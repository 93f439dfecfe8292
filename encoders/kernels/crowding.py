"""Reservations where many objects want the same anchors: in trees, whose cost no crowd can raise.

The order of pairs is strict (falling IoU, lower object, lower anchor) and the same for both sides. So
an object and an anchor that are each other's best of all that are free are a pair of the greedy
outcome, whatever else is free: a chain from any object to its best anchor, to that anchor's best
object, and so on, rises in this order until it meets such a pair. Every step is one search, and every
pair ends one or two: in all, a few searches for each object and each reserved anchor.

A search is branch and bound in a tree of boxes, halved along the edge in which they differ most. Of
anchors, sizes are parted first: a node with several bounds nothing for an object that encloses them,
so that each would be searched to its leaves. A node knows what bounds the IoU of those in it that are
free, with the arithmetic of the IoU itself: rounding is monotonic, so no bound is ever below what it
bounds, and equal boxes are equal bounds, of which the lowest index decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.overlap import area
from ytrue.jit import borrowed, inlined_kernel, kernel

NOBODY = np.iinfo(np.int32).max  # above every index
IN_LEAF = 8  # boxes at most
ALIKE = 1.001  # areas this near differ by rounding: anchors of one shape
ANY_SIZE = np.inf
AREA = 4  # after the four edges
# Columns of `Tree.bounds`: the hull of the boxes, the longest sides, the smallest and the largest area.
Y_MIN, X_MIN, Y_MAX, X_MAX, TALL, WIDE, LEAST, MOST = range(8)
COLUMNS = 8


class Tree(NamedTuple):
    """Boxes (M of them) by place: node n has the nodes 2 n and 2 n + 1 below, node 1 is the root.

    Leaf i of the F leaves is node F + i and holds `order[i * M // F]` to `order[(i + 1) * M // F]`.
    """

    order: NDArray[np.int32]  # (M,) indices of boxes, leaf by leaf
    leaf: NDArray[np.int32]  # (number of boxes,) of those in the tree
    free: NDArray[np.bool_]  # (number of boxes,)
    bounds: NDArray[Any]  # (2 F, 8) T, of the free boxes below
    lowest: NDArray[np.int32]  # (2 F,) index of a free box below, NOBODY without one


@kernel
def reserve_in_trees(begin, stop, anchors, rules, boxes, record, holder):  # type: ignore[no-untyped-def]
    """Reserve as `matching` does greedily, from the start; holder (A,) takes each anchor's object."""
    wanting = np.empty(stop - begin, np.int32)
    n = 0
    for k in range(begin, stop):
        if record.best_anchor[k] >= 0 and record.best_iou[k] > rules.min_force_iou:
            wanting[n] = k - begin
            n += 1
    objects = _plant(boxes[begin:stop], wanting[:n], ANY_SIZE)
    places = _plant(anchors, np.arange(anchors.shape[0]).astype(np.int32), ALIKE)
    chain, wish = np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
    _chain(
        begin, wanting[:n], anchors, rules, boxes[begin:stop], record, holder, objects, places,
        chain, wish,
    )  # fmt: skip


@kernel
def _chain(  # type: ignore[no-untyped-def]
    begin, wanting, anchors, rules, boxes, record, holder, objects, places, chain, wish
):
    wanting, anchors, boxes, holder = (
        borrowed(wanting), borrowed(anchors), borrowed(boxes), borrowed(holder),
    )  # fmt: skip
    objects, places, record = borrowed(objects), borrowed(places), borrowed(record)
    chain, wish = borrowed(chain), borrowed(wish)
    floor, epsilon = rules.min_force_iou, rules.epsilon
    for start in wanting:
        if not objects.free[start]:
            continue
        top = 0
        chain[0], wish[0] = start, NOBODY
        while top >= 0:
            k, anchor = chain[top], wish[top]
            # What an object wished for is its best until another takes it.
            if anchor == NOBODY or not places.free[anchor]:
                anchor, _ = _best(places, anchors, boxes, k, epsilon, floor)
                wish[top] = anchor
            if anchor == NOBODY:
                _take(objects, boxes, k)
                top -= 1
                continue
            rival, overlap = _best(objects, boxes, anchors, anchor, epsilon, floor)
            if rival != k:
                top += 1
                chain[top], wish[top] = rival, NOBODY
                continue
            holder[anchor] = k
            record.reserved[begin + k], record.reserved_iou[begin + k] = anchor, overlap
            _take(objects, boxes, k)
            _take(places, anchors, anchor)
            top -= 1


@kernel
def _plant(boxes, members, alike):  # type: ignore[no-untyped-def]
    """Return a tree of the boxes (N, 4) T that `members` (M,) int32, by rising index, name.

    It parts areas until the largest below a node is at most `alike` times the smallest, then edges.
    """
    count, leaves = members.shape[0], 1
    while leaves * IN_LEAF < count:
        leaves *= 2
    order = members.copy()
    leaf, free = np.zeros(boxes.shape[0], np.int32), np.zeros(boxes.shape[0], np.bool_)
    bounds = np.empty((2 * leaves, COLUMNS), boxes.dtype)
    tree = Tree(order, leaf, free, bounds, np.empty(2 * leaves, np.int32))
    keys, nodes = _edges_and_areas(boxes), 1
    while nodes < leaves:
        for node in range(nodes):
            first, end = node * count // nodes, (node + 1) * count // nodes
            middle = (2 * node + 1) * count // (2 * nodes)
            _halve(keys, _widest(keys, order, first, end, alike), order, first, middle, end)
        nodes *= 2
    for i in range(leaves):
        for at in range(i * count // leaves, (i + 1) * count // leaves):
            leaf[order[at]], free[order[at]] = i, True
        _bound_leaf(tree, boxes, i)
    for node in range(leaves - 1, 0, -1):
        _bound_node(tree, node)
    return tree


@kernel
def _edges_and_areas(boxes):  # type: ignore[no-untyped-def]
    keys = np.empty((boxes.shape[0], 5), boxes.dtype)
    for i in range(boxes.shape[0]):
        keys[i, :AREA], keys[i, AREA] = boxes[i], area(boxes, i)
    return keys


@kernel
def _widest(keys, order, first, end, alike):  # type: ignore[no-untyped-def]
    """Return AREA if that differs, else the edge in which the boxes at first to end differ most."""
    least, most = _range(keys, order, first, end, AREA)
    if most > alike * least:
        return AREA
    widest, edge = keys.dtype.type(-1), 0
    for axis in range(AREA):
        low, high = _range(keys, order, first, end, axis)
        if high - low > widest:
            widest, edge = high - low, axis
    return edge


@kernel
def _range(keys, order, first, end, column):  # type: ignore[no-untyped-def]
    low, high = keys[order[first], column], keys[order[first], column]
    for at in range(first + 1, end):
        value = keys[order[at], column]
        low, high = min(low, value), max(high, value)
    return low, high


@kernel
def _halve(keys, column, order, first, middle, end):  # type: ignore[no-untyped-def]
    """Put those of the lowest keys before the place `middle`, the others from it on."""
    low, high, random = first, end - 1, first
    while low < high:
        # A pivot that no order of the boxes can foresee to be a bad one (Hoare 1961).
        random = (random * 1664525 + 1013904223) & 0xFFFFFFFF
        pivot = keys[order[low + (random >> 8) % (high - low + 1)], column]
        i, j = low, high
        while i <= j:
            while keys[order[i], column] < pivot:
                i += 1
            while keys[order[j], column] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@kernel
def _bound_leaf(tree, boxes, leaf):  # type: ignore[no-untyped-def]
    count, leaves = tree.order.shape[0], tree.lowest.shape[0] // 2
    bounds, lowest = tree.bounds[leaves + leaf], NOBODY
    for at in range(leaf * count // leaves, (leaf + 1) * count // leaves):
        i = tree.order[at]
        if not tree.free[i]:
            continue
        tall, wide, size = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1], area(boxes, i)
        if lowest == NOBODY:
            bounds[Y_MIN], bounds[X_MIN] = boxes[i, 0], boxes[i, 1]
            bounds[Y_MAX], bounds[X_MAX] = boxes[i, 2], boxes[i, 3]
            bounds[TALL], bounds[WIDE], bounds[LEAST], bounds[MOST] = tall, wide, size, size
        else:
            bounds[Y_MIN] = min(bounds[Y_MIN], boxes[i, 0])
            bounds[X_MIN] = min(bounds[X_MIN], boxes[i, 1])
            bounds[Y_MAX] = max(bounds[Y_MAX], boxes[i, 2])
            bounds[X_MAX] = max(bounds[X_MAX], boxes[i, 3])
            bounds[TALL], bounds[WIDE] = max(bounds[TALL], tall), max(bounds[WIDE], wide)
            bounds[LEAST], bounds[MOST] = min(bounds[LEAST], size), max(bounds[MOST], size)
        lowest = min(lowest, i)
    tree.lowest[leaves + leaf] = lowest


@kernel
def _bound_node(tree, node):  # type: ignore[no-untyped-def]
    bounds, lowest, one, other = tree.bounds, tree.lowest, 2 * node, 2 * node + 1
    lowest[node] = min(lowest[one], lowest[other])
    if lowest[one] == NOBODY or lowest[other] == NOBODY:
        bounds[node] = bounds[other] if lowest[one] == NOBODY else bounds[one]
        return
    for column in (Y_MIN, X_MIN, LEAST):
        bounds[node, column] = min(bounds[one, column], bounds[other, column])
    for column in (Y_MAX, X_MAX, TALL, WIDE, MOST):
        bounds[node, column] = max(bounds[one, column], bounds[other, column])


@kernel
def _take(tree, boxes, i):  # type: ignore[no-untyped-def]
    """Make box i no longer free, and the bounds above it those of the others."""
    tree.free[i] = False
    leaf = tree.leaf[i]
    _bound_leaf(tree, boxes, leaf)
    node = (tree.lowest.shape[0] // 2 + leaf) // 2
    while node > 0:
        _bound_node(tree, node)
        node //= 2


@inlined_kernel
def _overlap(shared, one, other, epsilon):  # type: ignore[no-untyped-def]
    """Return the IoU as `windows.find_by_iou` computes it, given the shared area and both areas."""
    return shared / (one + other - shared + epsilon)


@kernel
def _highest(bounds, node, boxes, k, own, epsilon):  # type: ignore[no-untyped-def]
    """Return a bound of the IoU of box k, of area `own`, with the free boxes below a node."""
    tall = min(boxes[k, 2], bounds[node, Y_MAX]) - max(boxes[k, 0], bounds[node, Y_MIN])
    wide = min(boxes[k, 3], bounds[node, X_MAX]) - max(boxes[k, 1], bounds[node, X_MIN])
    if not (tall > 0 and wide > 0):
        return boxes.dtype.type(0)
    shared = min(tall, bounds[node, TALL]) * min(wide, bounds[node, WIDE])
    shared = min(shared, bounds[node, MOST])
    return _overlap(shared, own, bounds[node, LEAST], epsilon)


@kernel
def _best(tree, members, boxes, k, epsilon, floor):  # type: ignore[no-untyped-def]
    """Return the free member of highest IoU with box k, of equal ones the lowest, and the IoU.

    NOBODY where none has more than `floor`. members: the tree's boxes.
    """
    order, free, bounds, lowest = tree.order, tree.free, tree.bounds, tree.lowest
    count, leaves = order.shape[0], lowest.shape[0] // 2
    own, best, found = area(boxes, k), floor, NOBODY
    waiting, highest = np.empty(64, np.int64), np.empty(64, boxes.dtype)
    size = 1
    waiting[0], highest[0] = 1, _highest(bounds, 1, boxes, k, own, epsilon)
    while size > 0:
        size -= 1
        node, bound = waiting[size], highest[size]
        if bound < best or (bound == best and lowest[node] >= found) or bound <= floor:
            continue
        if lowest[node] == NOBODY:
            continue
        if node < leaves:
            one, other = 2 * node, 2 * node + 1
            here = _highest(bounds, one, boxes, k, own, epsilon)
            there = _highest(bounds, other, boxes, k, own, epsilon)
            if here > there or (here == there and lowest[one] < lowest[other]):
                one, other, here, there = other, one, there, here
            # The better one last, so that it is looked at first.
            waiting[size], highest[size] = one, here
            waiting[size + 1], highest[size + 1] = other, there
            size += 2
            continue
        leaf = node - leaves
        for at in range(leaf * count // leaves, (leaf + 1) * count // leaves):
            i = order[at]
            if not free[i]:
                continue
            tall = min(boxes[k, 2], members[i, 2]) - max(boxes[k, 0], members[i, 0])
            wide = min(boxes[k, 3], members[i, 3]) - max(boxes[k, 1], members[i, 1])
            if tall > 0 and wide > 0:
                overlap = _overlap(tall * wide, own, area(members, i), epsilon)
                if overlap > best or (overlap == best and overlap > floor and i < found):
                    best, found = overlap, i
    return found, best
