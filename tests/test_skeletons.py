"""Left and right: every way to write it is found, and where nothing says it nothing is assumed."""

import pytest

from ytrue.datasets.skeletons import flips_of_index, flips_of_names, flips_of_record, unknown_flips

SIDES = [
    ("left_{}", "right_{}"), ("Left {}", "Right {}"), ("LEFT-{}", "RIGHT-{}"), ("{}_left", "{}_right"),
    ("{}_Left", "{}_Right"), ("L_{}", "R_{}"), ("{}_L", "{}_R"), ("l-{}", "r-{}"), ("l.{}", "r.{}"),
    ("left{}", "right{}"), ("{}left", "{}right"), ("Left{}", "Right{}"), ("{}Left", "{}Right"),
    ("{}L", "{}R"), ("l{}", "r{}"), ("L{}", "R{}"), ("{} (left)", "{} (right)"), ("{} l", "{} r"),
    ("lt_{}", "rt_{}"), ("左{}", "右{}"), ("{}_links", "{}_rechts"), ("{} gauche", "{} droite"),
    ("{}_1_left", "{}_1_right"), ("{}L1", "{}R1"), ("front_left_{}_2", "front_right_{}_2"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SIDES)
@pytest.mark.parametrize("part", ["eye", "Shoulder", "knee"])
def test_sides_are_found_however_they_are_written(left, right, part):
    names = ["nose", right.format(part), "tail", left.format(part)]
    assert flips_of_names(names) in (((3, 1),), ((1, 3),))
    assert flips_of_names(names[::-1]) in (((0, 2),), ((2, 0),))


def test_each_side_has_its_own_other():
    names = ["eyeL", "eyeR", "forelegR1", "forelegR2", "forelegL1", "forelegL2", "head"]
    assert flips_of_names(names) == ((0, 1), (4, 2), (5, 3))
    names = ["left_eye", "left_ear", "right_ear", "right_eye"]
    assert flips_of_names(names) == ((0, 3), (1, 2))


KNOWN = [
    ([], ()),
    (["nose"], ()),
    (["point 0"], ()),
    (["head", "tail", "neck"], ()),
    (["bright", "upright", "cleft"], ()),
    (["spine1", "spine2", "left_hip", "right_hip"], ((2, 3),)),
]
UNKNOWN = [
    ["left_eye", "nose"],
    ["left_eye", "right_ear"],
    ["left_eye", "right_eye", "left_ear"],
    ["L", "nose"],
    ["point 0", "point 1"],
    ["0", "1"],
    ["", ""],
    ["eye1", "eye2", "nose"],
    ["eye", "eye"],
    ["kp_1", "nose"],
]


@pytest.mark.parametrize(("names", "pairs"), KNOWN)
def test_names_without_sides_have_none(names, pairs):
    assert flips_of_names(names) == pairs


@pytest.mark.parametrize("names", UNKNOWN)
def test_where_sides_are_possible_nothing_is_assumed(names):
    assert flips_of_names(names) is None


NAMES = ["a", "b", "c", "d"]
RECORDS = [
    ({"flip_pairs": [[0, 2]]}, ((0, 2),)),
    ({"flip_pairs": [["d", "b"]]}, ((3, 1),)),
    ({"flip_pairs": []}, ()),
    ({"flip_pairs": None}, None),
    ({"flip_idx": [2, 1, 0, 3]}, ((0, 2),)),
    ({"flip_idx": None}, ()),
    ({"swap": ["c", "", "a", None]}, ((0, 2),)),
    ({"swap": ["c", "d", "a", "b"]}, ((0, 2), (1, 3))),
    ({}, ()),
]


@pytest.mark.parametrize(("record", "pairs"), RECORDS)
def test_what_the_file_says_counts(record, pairs):
    assert flips_of_record(record, NAMES) == pairs


@pytest.mark.parametrize(
    "record",
    [
        {"flip_pairs": 3}, {"flip_pairs": [[0]]}, {"flip_pairs": [[0, 4]]}, {"flip_pairs": [[-1, 0]]},
        {"flip_pairs": [[0, 0]]}, {"flip_pairs": [[0, 1], [1, 2]]}, {"flip_pairs": [["a", "x"]]},
        {"flip_pairs": [[0.5, 1]]}, {"flip_pairs": [[True, 0]]}, {"flip_pairs": {"a": "b"}},
        {"flip_pairs": [["a", ["b"]]]}, {"flip_pairs": [3]},
        {"flip_idx": [0, 1, 2]}, {"flip_idx": [1, 2, 0, 3]}, {"flip_idx": [0, 1, 2, 4]},
        {"flip_idx": "0123"}, {"flip_idx": 4}, {"flip_idx": [0, 1, 2, None]},
        {"swap": ["c", "", "", ""]}, {"swap": ["x", "", "", ""]}, {"swap": "abcd"}, {"swap": [[], "", "", ""]},
    ],
)  # fmt: skip
def test_what_names_no_landmark_is_refused(record):
    with pytest.raises(ValueError, match=f"{next(iter(record))} is "):
        flips_of_record(record, NAMES)


def test_flip_idx_that_swaps_nothing_says_that_nothing_has_a_side():
    assert flips_of_index([0, 1, 2], 3) == ()


def test_the_problem_says_what_to_pass():
    said = str(unknown_flips(["p1", "p2"], "a.json"))
    assert "a.json: the landmarks are called p1, p2: nobody knows" in said
    assert "--flip-pairs" in said
    assert "[flips-unknown, kept]" in said
