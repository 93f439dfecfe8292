"""The few anchors that can be detections, out of all that a network scores."""

from ytrue.jit import kernel


@kernel
def best_classes(scores, lowest, rows, labels, best):  # type: ignore[no-untyped-def]
    """Write the anchors whose best class reaches `lowest`; return how many.

    scores (A, C) float32, of every class; lowest: a float32. rows, labels and best (A,) take
    the anchor, its best class (of equal ones the first) and that class's score.

    Most anchors have no class above: whether any is, is asked without a branch, so that many
    classes are compared at once, and only the few others are looked at class by class.
    """
    n = 0
    for a in range(scores.shape[0]):
        above = False
        for c in range(scores.shape[1]):
            above |= scores[a, c] >= lowest
        if not above:
            continue
        label, highest = -1, lowest
        for c in range(scores.shape[1]):
            score = scores[a, c]
            if score > highest or (label < 0 and score == highest):
                label, highest = c, score
        rows[n], labels[n], best[n] = a, label, highest
        n += 1
    return n
