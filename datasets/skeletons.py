"""Which landmarks a left-right flip swaps: what their names, or the file, say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ytrue.errors import Problem

Flips = tuple[tuple[int, int], ...]
"""Pairs of landmarks by position, the left one first where that is known."""

_PAIRS: Final = (
    ("left", "right"), ("l", "r"), ("lt", "rt"), ("lft", "rgt"), ("lhs", "rhs"), ("左", "右"),
    ("links", "rechts"), ("linke", "rechte"), ("linker", "rechter"), ("linkes", "rechtes"),
    ("gauche", "droite"), ("gauche", "droit"), ("izquierda", "derecha"),
    ("izquierdo", "derecho"), ("sinistra", "destra"), ("sinistro", "destro"),
    ("esquerda", "direita"), ("esquerdo", "direito"),
)  # fmt: skip
_LEFTS: Final = dict(reversed(_PAIRS))
_RIGHTS: Final = {right: left for left, right in _PAIRS}
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[左右]|\d+|[^\W\d_a-zA-Z左右]+")
_NO_SIDES: Final = ("bright", "upright", "cleft", "wright", "fright", "leftover")
_COUNTED: Final = frozenset(
    ("", "point", "pt", "p", "keypoint", "kpt", "kp", "k", "landmark", "lm", "joint", "j", "node",
     "corner", "vertex", "v", "marker", "m")
)  # fmt: skip
UNKNOWN_HINT: Final = (
    "nobody knows which landmarks a flip swaps, so images are not mirrored: give the pairs with "
    '--flip-pairs (keypoint_flips=), or "none" (()) if no landmark has a side'
)


def flips_of_names(names: Sequence[str]) -> Flips | None:
    """Return the pairs that landmarks' names tell, None where sides are possible but not told.

    "left_eye", "Left Eye", "EyeLeft", "L_Eye", "eyeL", "lefteye", "leye" and the like are sides.
    Without one, distinct words such as "head" and "tail" have no side; numbers ("point 3",
    "eye1" and "eye2") may.

    Example:
        flips_of_names(["nose", "L_Eye", "R_Eye"])  # ((1, 2),)
    """
    words = [_words(name) for name in names]
    row_of = {word: k for k, word in reversed(list(enumerate(words)))}
    pairs, paired = [], set[int]()
    for k, word in enumerate(words):
        swapped = tuple(_LEFTS.get(w, w) for w in word)
        other = row_of.get(swapped)
        if other is not None and swapped != word and not paired & {k, other}:
            pairs.append((k, other))
            paired |= {k, other}
    for left, right in _glued(names, paired):
        pairs.append((left, right))
        paired |= {left, right}
    lone = [words[k] for k in range(len(names)) if k not in paired]
    if any(w in _LEFTS or w in _RIGHTS for word in lone for w in word):
        return None
    return tuple(sorted(pairs)) if pairs or not _may_have_sides(lone, names) else None


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case; "lefteye" and "eyeleft" are two."""
    words: list[str] = []
    for word in (match.lower() for match in _WORD.findall(name)):
        side = next((s for s in ("left", "right") if s in (word[: len(s)], word[-len(s) :])), "")
        if not side or word == side or word in _NO_SIDES:
            words.append(word)
        elif word.startswith(side):
            words += [side, word[len(side) :]]
        else:
            words += [word[: -len(side)], side]
    return tuple(words)


def _glued(names: Sequence[str], paired: set[int]) -> list[tuple[int, int]]:
    """Return pairs of names such as "leye" and "reye": only both together say what the letter is."""
    row_of = {name.lower(): k for k, name in enumerate(names) if k not in paired}
    return [
        (k, row_of["r" + name[1:]])
        for name, k in row_of.items()
        if name[:1] == "l" and len(name) > 3 and "r" + name[1:] in row_of
    ]


def _may_have_sides(lone: Sequence[tuple[str, ...]], names: Sequence[str]) -> bool:
    if len(names) < 2:
        return False
    bare = [tuple(w for w in word if not w.isdecimal()) for word in lone]
    counted = any("".join(word) in _COUNTED for word in bare)
    return counted or len(set(bare)) < len(bare)


def flips_of_record(record: Mapping[str, Any], names: Sequence[str]) -> Flips | None:
    """Return the pairs that a category's record tells, else those of the names.

    `flip_pairs`: pairs of positions from 0 or names, null for unknown; `flip_idx`: for each
    landmark the position of the one that it becomes; `swap`: its name, "" for none.

    Raises:
        ValueError: the record names something that is no landmark, or one twice.
    """
    if "flip_pairs" in record:
        given = record["flip_pairs"]
        return None if given is None else _checked(given, names)
    if record.get("flip_idx") is not None:
        return flips_of_index(record["flip_idx"], len(names))
    if record.get("swap") is not None:
        return _of_swaps(record["swap"], names)
    return flips_of_names(names)


def flips_of_index(index: Any, count: int) -> Flips:
    """Return the pairs of `flip_idx`: for each of K landmarks the position of its other side.

    Raises:
        ValueError: it is no such list.
    """
    if (
        not isinstance(index, Sequence)
        or len(index) != count
        or any(type(k) is not int or not 0 <= k < count for k in index)
        or any(index[other] != k for k, other in enumerate(index))
    ):
        raise ValueError(
            f"flip_idx is {str(index)[:60]}, expected the other side's position for each of "
            f"{count} landmarks"
        )
    return tuple((k, other) for k, other in enumerate(index) if k < other)


def _of_swaps(swaps: Any, names: Sequence[str]) -> Flips:
    own = [name in ("", None) for name in swaps] if isinstance(swaps, list) else []
    if len(own) == len(names) and all(o or s in names for o, s in zip(own, swaps, strict=True)):
        index = [k if own[k] else names.index(swap) for k, swap in enumerate(swaps)]
        if all(index[other] == k for k, other in enumerate(index)):
            return flips_of_index(index, len(names))
    raise ValueError(f"swap is {str(swaps)[:60]}, expected each landmark's other side by name")


def _checked(given: Any, names: Sequence[str]) -> Flips:
    pairs = given if isinstance(given, list) else [None]
    rows = [
        tuple(names.index(end) if end in names else end for end in pair)
        if isinstance(pair, list)
        else ()
        for pair in pairs
    ]
    ends = [end for pair in rows for end in pair]
    if (
        any(len(pair) != 2 for pair in rows)
        or any(type(end) is not int or not 0 <= end < len(names) for end in ends)
        or len(set(ends)) < len(ends)
    ):
        raise ValueError(
            f"flip_pairs is {str(given)[:60]}, expected pairs of different landmarks, by position "
            "from 0 or by name"
        )
    return tuple((int(pair[0]), int(pair[1])) for pair in rows)


def unknown_flips(names: Sequence[str], file: str, why: str = "") -> Problem:
    """Return the problem of landmarks whose sides nobody knows."""
    listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    said = why or (f"the landmarks are called {listed}" if names else "the landmarks have no names")
    return Problem("flips-unknown", f"{said}: {UNKNOWN_HINT}", "kept", file)
