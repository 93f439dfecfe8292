"""Pictures of outlines in bins show the vertices that the encoder kept and dropped."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

import ytrue
from ytrue import RLE, Annotations, viz
from ytrue.contract import encoders_in
from ytrue.datasets import load, write_shapes
from ytrue.encoders import (
    KeypointGridEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)
from ytrue.encoders.kernels.polygons import angle_bin
from ytrue.encoders.polygon import polygons_of
from ytrue.outlinefits import outline_fit
from ytrue.resizing import place
from ytrue.viz import style

BOXES = YoloEncoder((128, 128), [(16, 16), (40, 40)], stride=16, num_classes=4)
ENCODER = PolygonEncoder(BOXES, bins=12)
BLANK = np.zeros((128, 128, 3), np.uint8)


def rectangle(y_min, x_min, y_max, x_max):
    return [(y_min, x_min), (y_min, x_max), (y_max, x_max), (y_max, x_min)]


BIG, SMALL, OTHER = (8, 8, 72, 104), (80, 80, 90, 90), (80, 10, 110, 60)
PARTS = [rectangle(80, 10, 110, 30), rectangle(85, 40, 105, 60)]
FEW = Annotations(
    [BIG, SMALL, OTHER, (100, 100, 120, 120)], [0, 1, 2, 3],
    polygons=[[rectangle(*BIG)], [rectangle(*SMALL)], PARTS, []],
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(
        write_shapes(
            tmp_path_factory.mktemp("shapes"), num_images=6, image_size=(96, 128), bad=True
        )
    )


def placed(example):
    return place((example.height, example.width), (128, 128), "letterbox").apply(
        example.annotations
    )


def drawn(objects, encoder=ENCODER, **options):
    return viz.show_polygons(
        BLANK, encoder.vertices(objects), encoder.explain(objects), classes=tuple("abcd"), **options
    )


def collection(figure, gid):
    (found,) = [c for c in figure.axes[0].collections if c.get_gid() == gid]
    return found


def points(figure, gid):
    return np.asarray(collection(figure, gid).get_offsets(), np.float32)[:, ::-1]


def rings(figure, gid):
    return [path.vertices[:-1, ::-1] for path in collection(figure, gid).get_paths()]


def texts(figure):
    return [t.get_text() for t in (*figure.axes[0].texts, *figure.texts)]


def keys(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_vertex_and_outline_of_every_image_is_drawn(dataset):
    several = 0
    for example in dataset:
        objects = placed(example)
        vertices, assignment = ENCODER.vertices(objects), ENCODER.explain(objects)
        taught = assignment.positives > 0
        mine = taught[vertices.object]
        figure = viz.show_polygons(example, vertices, assignment)
        np.testing.assert_array_equal(points(figure, "kept"), vertices.yx[mine & vertices.kept])
        np.testing.assert_array_equal(points(figure, "dropped"), vertices.yx[mine & ~vertices.kept])
        decoded = [outline[0] for outline in polygons_of(vertices.boxes, vertices.polar) if outline]
        for got, expected in zip(rings(figure, "decoded"), decoded, strict=True):
            np.testing.assert_allclose(got, expected)
        true = [vertices.yx[vertices.object == k] for k in np.unique(vertices.object[mine])]
        for got, expected in zip(rings(figure, "true"), true, strict=True):
            np.testing.assert_allclose(got, expected)
        several += len(true) > 2
    assert several


def test_the_headline_says_what_tuning_measures(dataset):
    for index in (0, 1):
        tuning = ytrue.tune_polygons(dataset.subset([index]), 128, bins=(12,))
        objects = placed(dataset[index])
        vertices, assignment = ENCODER.vertices(objects), ENCODER.explain(objects)
        said = " ".join(texts(viz.show_polygons(dataset[index], vertices, assignment)))
        assert not assignment.lost
        assert f"mean IoU {tuning.choices[0].mean_iou:.3f}" in said
        kept, given = int(vertices.kept.sum()), len(vertices.kept)
        assert f"12 bins keep {kept} of {given} vertices, {given - kept} dropped" in said


def test_rays_bound_the_bins_of_large_objects_and_end_at_the_box():
    figure = drawn(FEW)
    segments = np.array(collection(figure, "rays").get_segments())[..., ::-1]
    # SMALL is 92 pixels of the picture wide, just enough; the last has no outline.
    assert len(segments) == 3 * ENCODER.bins
    for box, mine in zip((BIG, SMALL, OTHER), np.split(segments, 3), strict=True):
        low, high = np.array(box[:2]), np.array(box[2:])
        np.testing.assert_allclose(mine[:, 0], np.tile((low + high) / 2, (12, 1)))
        gaps = np.minimum(np.abs(mine[:, 1] - low), np.abs(mine[:, 1] - high)).min(axis=1)
        np.testing.assert_allclose(gaps, 0, atol=1e-4)
        np.testing.assert_allclose(mine[0, 1], ((low + high)[0] / 2, low[1]))  # to the left
        np.testing.assert_allclose(mine[3, 1], (low[0], (low + high)[1] / 2))  # over the top
    tiny = Annotations([(80, 80, 89, 90)], [0], polygons=[[rectangle(80, 80, 89, 90)]])
    assert not collection(drawn(tiny), "rays").get_segments()


def test_one_object_is_enlarged_with_its_bins_numbered():
    figure = drawn(FEW, object=2)
    axes, vertices, fit = figure.axes[0], ENCODER.vertices(FEW), _fit(FEW)
    centre = np.array((95.0, 35.0))
    assert axes.get_xlim()[0] < OTHER[1] < OTHER[3] < axes.get_xlim()[1]
    assert axes.get_ylim()[1] < OTHER[0] < OTHER[2] < axes.get_ylim()[0]
    assert axes.get_xlim()[1] - axes.get_xlim()[0] < 80
    for text in axes.texts:
        x, y = text.get_position()
        assert angle_bin(centre[0] - y, centre[1] - x, 12)[0] == int(text.get_text())
    assert [text.get_text() for text in axes.texts] == [str(v) for v in range(12)]
    held = vertices.polar[2, :, 2] > 0
    white = [to_hex(text.get_color()) == "#ffffff" for text in axes.texts]
    np.testing.assert_array_equal(white, held)
    kept = vertices.yx[(vertices.object == 2) & vertices.kept]
    lines = np.array(collection(figure, "distances").get_segments())[..., ::-1]
    np.testing.assert_allclose(lines[:, 0], np.tile(centre, (len(kept), 1)))
    np.testing.assert_allclose(lines[:, 1], kept)
    np.testing.assert_array_equal(points(figure, "kept"), kept)
    said = texts(figure)
    assert f"object 2, c: IoU {fit.iou[2]:.3f}" in said
    assert fit.why(2) in said
    with pytest.raises(ValueError, match="object=4: the image has 4 objects, from 0"):
        drawn(FEW, object=4)


def test_numbers_of_many_bins_are_thinned():
    figure = drawn(FEW, PolygonEncoder(BOXES, bins=100), object=0)
    assert [text.get_text() for text in figure.axes[0].texts] == [str(v) for v in range(0, 100, 3)]


def _fit(objects, encoder=ENCODER):
    return outline_fit(encoder.vertices(objects), encoder.explain(objects))


def test_what_became_of_an_outline_is_said():
    fit = _fit(FEW)
    assert fit.iou[:2].tolist() == [1, 1]
    assert np.isnan(fit.iou[3])
    assert fit.mean_iou == pytest.approx(fit.iou[:3].mean())
    # The larger part has 20 x 30 of 1000 pixels, and its four vertices are in four bins.
    assert fit.iou[2] == pytest.approx(0.6)
    assert fit.why(2).endswith(
        "; 4 of 4 vertices kept, in 4 of 12 bins: IoU 0.60 with the object; 1 part of its outline "
        "does not count"
    )
    assert fit.why(3).endswith("; no outline: neither a polygon nor a mask inside its box")
    assert "2 parts of its outline do not count" in _fit(
        FEW.replace(polygons=[[], [], [*PARTS, rectangle(100, 35, 109, 38)], []])
    ).why(2)


def test_parts_are_dashed_and_masks_have_their_contour():
    figure = drawn(FEW)
    (parts,) = collection(figure, "parts").get_paths()
    assert len(parts.vertices) == 10  # two closed rectangles
    assert "all its parts" in keys(figure)
    assert "1 without outline" in keys(figure)
    assert len(rings(drawn(FEW, object=2), "parts")) == 1
    assert not rings(drawn(FEW, object=0), "parts")
    mask = np.zeros((128, 128), np.uint8)
    mask[80:110, 10:30] = mask[85:105, 40:60] = 1
    masked = drawn(Annotations([OTHER], [2], masks=[RLE.from_mask(mask)]))
    (contour,) = collection(masked, "parts").get_paths()
    assert set(map(tuple, contour.vertices)) == set(map(tuple, parts.vertices))
    assert "all its parts" not in keys(drawn(FEW.select([0, 1])))


def test_lost_objects_are_red_with_the_reason_and_teach_no_vertex():
    same = [rectangle(*BIG)]
    objects = Annotations(
        [BIG, BIG, BIG, (5, 5, 5, 9), (90, 4, 120, 60)], [0, 1, 2, 3, 0],
        crowd=[False] * 4 + [True], polygons=[same, same, same, [], []],
    )  # fmt: skip
    encoder = PolygonEncoder(YoloEncoder((128, 128), [(64, 96)], stride=64, num_classes=4), bins=12)
    figure = drawn(objects, encoder)
    assert len(points(figure, "kept")) == 4
    assert len(rings(figure, "decoded")) == len(rings(figure, "true")) == 1
    lost = collection(figure, "lost")
    assert len(lost.get_paths()) == 2
    assert to_hex(lost.get_edgecolor()).upper() == style.LOST
    said = texts(figure)
    assert "#1 b: lost, taken" in said
    assert "#2 c: lost, taken" in said
    assert "#3 d: lost, no-area" in said
    assert "a: crowd" in said
    assert {"3 lost", "1 crowd region"} <= set(keys(figure))
    alone = drawn(objects, encoder, object=2)
    assert "object 2, c" in texts(alone)
    assert encoder.explain(objects).why(2) in texts(alone)
    assert keys(alone) == ["its box: taken", "its outline: not taught"]
    for k in (3, 4):
        assert viz.png_bytes(drawn(objects, encoder, object=k))


UGLY = [
    Annotations(),
    Annotations([(np.nan, 0, 5, 5), (200, 200, 220, 220)], [0, 1]),
    Annotations([(-50, -50, 500, 500)], [3], polygons=[[[(-50, -50), (500, 0), (np.inf, 3)]]]),
    Annotations([(0, 0, 1, 1)], [0], content=(0, 0, 128, 1), polygons=[[[(0, 0), (1, 1)]]]),
]


@pytest.mark.parametrize("objects", UGLY, ids=["empty", "lost", "huge", "thin"])
def test_ugly_inputs_are_drawn(objects):
    assert viz.png_bytes(drawn(objects))[:4] == b"\x89PNG"
    for k in range(len(objects)):
        assert viz.png_bytes(drawn(objects, object=k))[:4] == b"\x89PNG"


@pytest.mark.parametrize("size", [(128, 128), (512, 32), (32, 512)])
@pytest.mark.parametrize("object", [None, 0])
def test_nothing_is_cut_and_the_legend_lies_beside_the_image(size, object):
    height, width = size
    ring = rectangle(4, 4, height - 4, width - 4)
    objects = Annotations([(4, 4, height - 4, width - 4)], [0], polygons=[[ring]])
    encoder = PolygonEncoder(YoloEncoder(size, [(16, 16)], stride=16, num_classes=1))
    name = "a name of a class that is quite a bit longer than others are, " * 2
    figure = viz.show_polygons(
        np.zeros((*size, 3), np.uint8), encoder.vertices(objects), encoder.explain(objects),
        object=object, classes=(name,),
    )  # fmt: skip
    figure.canvas.draw()
    whole, axes = figure.bbox, figure.axes[0]
    legend = figure.legends[0].get_window_extent()
    assert not legend.overlaps(axes.get_window_extent())
    assert legend.x1 <= whole.x1
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x1 <= whole.x1 + 1, text.get_text()
        assert not extent.overlaps(legend)
    for text in axes.texts:
        assert text.get_window_extent().x1 <= axes.get_window_extent().x1 + 4, text.get_text()


def test_every_kind_of_encoder_has_its_picture(dataset):
    points_ = KeypointGridEncoder((128, 128), stride=16, num_classes=4, slots="fixed",
                                  points_per_cell=4, classes="object")  # fmt: skip
    pose = PoseEncoder(preset("ytrue", (128, 128), 4), points_)
    objects = placed(dataset[0])

    def head(encoder, **options):
        return texts(viz.show_encoding(dataset[0], encoder, objects, **options))

    assert any("12 bins keep" in text for text in head(ENCODER))
    assert any("places" in text for text in head(ENCODER, levels=True))
    assert any("places" in text for text in head(BOXES))
    assert [name for name, _ in encoders_in(pose).items()] == ["box", "keypoints"]
    assert any("anchors" in text for text in head(encoders_in(pose)["box"]))
    assert any("slots hold one" in text for text in head(encoders_in(pose)["keypoints"]))
    assert encoders_in(ENCODER) == {"": ENCODER}
    with pytest.raises(ValueError, match="a joint encoder has a picture for each part"):
        viz.show_encoding(dataset[0], pose, objects)


def test_cells_speak_of_places_and_forced_ones():
    objects = Annotations([BIG, BIG, SMALL], [0, 1, 2])
    encoder = YoloEncoder((128, 128), [(64, 96), (30, 30)], stride=64, num_classes=4)
    assignment = encoder.explain(objects)
    assert assignment.outcome.count("forced") == 1
    figure = viz.show_assignment(BLANK, assignment)
    said = texts(figure) + keys(figure)
    assert "1 only forced" in said
    assert "1 of them forced" in said
    assert any("of 8 places 3 positive" in text for text in said)
    assert not any("reserved" in text or "anchors" in text for text in said)
    forced = assignment.outcome.index("forced")
    alone = viz.show_assignment(BLANK, assignment, object=forced)
    assert any("forced position" in text for text in texts(alone))


def test_points_of_the_outline_are_squares_beside_the_vertices():
    yolo = YoloEncoder(64, [(32, 32)], stride=8, num_classes=1)
    square = Annotations([(8, 8, 40, 40)], [0], polygons=[[[(8, 8), (8, 40), (40, 40), (40, 8)]]])
    encoder = PolygonEncoder(yolo, points="outline")
    vertices, assignment = encoder.vertices(square), encoder.explain(square)
    fit = outline_fit(vertices, assignment)
    assert fit.kept.tolist() == [4]
    assert fit.filled.tolist() == [20]
    assert "4 of 4 vertices kept, in 4 of 24 bins and a point of the outline in 20: IoU 1" in (
        fit.why(0)
    )
    grey = np.full((64, 64, 3), 90, np.uint8)
    for chosen in (None, 0):
        figure = viz.show_polygons(grey, vertices, assignment, object=chosen)
        (axes,) = figure.axes
        (drawn,) = [part for part in axes.collections if part.get_gid() == "filled"]
        points = np.asarray(drawn.get_offsets())
        assert len(points) == 20
        np.testing.assert_allclose(np.abs(points - 24).max(axis=1), 16, atol=1e-3)
