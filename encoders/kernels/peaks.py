"""The local maxima of a network's heat maps."""

from ytrue.jit import kernel


@kernel
def find_peaks(values, lowest, cells, labels, best):  # type: ignore[no-untyped-def]
    """Write the peaks that reach `lowest`, by cell, then class; return how many.

    values (H, W, C) float32; lowest: a float32. A peak is a cell that none of its up to eight
    neighbours exceeds in its class and none of those before it, by row, then column, equals: two
    neighbours are never both peaks. cells, labels and best take the cell, the class and the value,
    ceil(H / 2) * ceil(W / 2) * C of them at most.
    """
    rows, columns, classes = values.shape
    n = 0
    for row in range(rows):
        for column in range(columns):
            # Most cells have no class above: all are compared at once, without a branch.
            above = False
            for c in range(classes):
                above |= values[row, column, c] >= lowest
            if not above:
                continue
            for c in range(classes):
                if values[row, column, c] >= lowest and _is_peak(values, row, column, c):
                    cells[n] = row * columns + column
                    labels[n], best[n] = c, values[row, column, c]
                    n += 1
    return n


@kernel
def _is_peak(values, row, column, c):  # type: ignore[no-untyped-def]
    value = values[row, column, c]
    for y in range(max(row - 1, 0), min(row + 2, values.shape[0])):
        for x in range(max(column - 1, 0), min(column + 2, values.shape[1])):
            other = values[y, x, c]
            before = y < row or (y == row and x < column)
            if other > value or (before and other == value):
                return False
    return True
