"""Pictures show what was assigned; pages stand alone; nothing global is touched."""

import html.parser
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from rich.console import Console

import ytrue
from ytrue import Annotations, viz
from ytrue.datasets import load, write_shapes
from ytrue.encoders import MaskEncoder, preset
from ytrue.resizing import place
from ytrue.viz import style
from ytrue.viz.drawing import class_name
from ytrue.viz.page import Photograph

ENCODER = preset("ytrue", (128, 128), 4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(
        write_shapes(
            tmp_path_factory.mktemp("shapes"), num_images=6, image_size=(96, 128), bad=True
        )
    )


def explained(example):
    placement = place((example.height, example.width), ENCODER.image_size, "letterbox")
    return ENCODER.explain(placement.apply(example.annotations))


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts] + [
        t.get_text() for t in figure.texts
    ]


def dots(figure):
    return sum(len(c.get_offsets()) for axes in figure.axes for c in axes.collections)


def test_every_positive_and_ignored_anchor_is_a_dot(dataset):
    example = dataset[5]
    assignment = explained(example)
    figure = viz.show_assignment(example, assignment)
    assert dots(figure) == (assignment.state != 0).sum()
    edges = {to_hex(p.get_edgecolor()).upper() for p in figure.axes[0].patches if not p.get_hatch()}
    assert edges <= {style.MATCHED.upper(), style.FORCED.upper()}
    assert sum(bool(p.get_hatch()) for p in figure.axes[0].patches) == 2  # the crowd, the padding
    said = texts(figure)
    for k in range(len(assignment)):
        if assignment.outcome[k] == "matched":
            label = f"#{k} {dataset.classes[example.annotations.labels[k]]}: {assignment.positives[k]} · {assignment.best_iou[k]:.2f}"
            assert label in said


def test_one_object_is_singled_out_with_its_reason(dataset):
    assignment = explained(dataset[0])
    figure = viz.show_assignment(dataset[0], assignment, object=0)
    assert dots(figure) == assignment.positives[0]
    assert any(assignment.why(0) in text for text in texts(figure))
    with pytest.raises(ValueError, match=r"object=99: the image has \d+ objects, from 0"):
        viz.show_assignment(dataset[0], assignment, object=99)


def test_levels_are_panels(dataset):
    assignment = explained(dataset[0])
    figure = viz.show_assignment(dataset[0], assignment, levels=True)
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == [
        "P3",
        "P4",
        "P5",
        "P6",
        "P7",
    ]
    assert dots(figure) == (assignment.state != 0).sum()


def test_labels_do_not_overlap_and_those_left_out_are_counted():
    rng = np.random.default_rng(0)
    centre = rng.uniform(10, 118, (300, 2))
    objects = Annotations(np.concatenate((centre - 4, centre + 4), axis=1), rng.integers(0, 4, 300))
    figure = viz.show_assignment(np.zeros((128, 128, 3), np.uint8), ENCODER.explain(objects))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 5 < len(boxes) <= 40
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    assert f"{300 - len(boxes)} labels left out" in " ".join(texts(figure))


LOST = [(5, 5, 5, 40), (200, 200, 220, 220)]
UGLY = [Annotations(), Annotations(LOST, [0, 1]), Annotations([(np.nan, 0, 5, 5)], [0]),
        Annotations([(-50, -50, 500, 500)], [3]), Annotations([(0, 0, 1, 1)], [0], content=(0, 0, 128, 1))]  # fmt: skip


@pytest.mark.parametrize("objects", UGLY, ids=["empty", "lost", "nan", "huge", "thin"])
def test_ugly_inputs_are_drawn(objects):
    blank = np.zeros((128, 128, 3), np.uint8)
    for levels in (False, True):
        figure = viz.show_assignment(blank, ENCODER.explain(objects), levels=levels)
        assert viz.png_bytes(figure)[:4] == b"\x89PNG"


def test_pictures_of_large_images_stay_readable_in_size(dataset, tmp_path):
    from datafiles import image

    example = replace(
        dataset[0], path=image(tmp_path / "big.jpg", 3000, 4000), height=3000, width=4000,
        annotations=dataset[0].annotations.replace(image_size=(3000, 4000)),
    )  # fmt: skip
    for figure in (viz.show_example(example), viz.show_assignment(example, explained(example))):
        width, height = figure.get_size_inches() * style.DPI
        assert width <= 1600
        assert height <= 1400


def test_a_missing_image_is_drawn_on_grey(dataset):
    example = dataset[dataset.index_of("not_there.jpg")]
    assert viz.png_bytes(viz.show_assignment(example, explained(example)))


@pytest.mark.parametrize("name", ["$\\frac{$", "5$ to 9$"])
def test_names_are_never_read_as_formulas(dataset, name):
    hostile = replace(dataset, classes=(name,) * 4)
    example = replace(hostile[0], image_id=name)
    sheet = replace(hostile.subset([0]), images=replace(hostile.subset([0]).images, ids=(name,)))
    assignment = explained(example)
    drawn = [
        viz.show_assignment(example, assignment),
        viz.show_assignment(example, assignment, object=0),
        viz.show_assignment(example, assignment, levels=True, title=name),
        viz.show_example(example),
        viz.show_dataset(sheet),
        viz.show_audit(ytrue.audit(hostile, ENCODER)),
    ]
    for figure in drawn:
        assert viz.png_bytes(figure)
        shown = [text for text in figure.findobj(Text) if text.get_visible()]
        written = [text for text in shown if "$" in text.get_text()]
        assert written
        assert not any(text.get_parse_math() for text in written)


def test_pixels_of_another_size_are_refused():
    with pytest.raises(
        ValueError, match=r"the image has shape \(4, 4, 3\), the frame is \(128, 128\)"
    ):
        viz.show_assignment(np.zeros((4, 4, 3), np.uint8), ENCODER.explain(Annotations()))


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        if tag not in ("img", "meta", "br"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_report_stands_alone_and_escapes_names(dataset, tmp_path):
    hostile = replace(dataset, classes=("<script>alert(1)</script>", "a&b", "$x_1$", '"q"'))
    report = ytrue.audit(hostile, ENCODER)
    figure = viz.show_assignment(dataset[0], explained(dataset[0]))
    page = viz.report_html(report, tmp_path / "r.html", pictures=[("<b>", figure)]).read_text()
    parser = _Page()
    parser.feed(page)
    assert parser.stack == []
    assert parser.sources
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    for sentence in report.advice():
        assert sentence.split(":")[0] in page


def test_values_show_themselves_in_a_notebook(dataset):
    assert dataset[0]._repr_png_()[:4] == b"\x89PNG"
    assert explained(dataset[0])._repr_png_()[:4] == b"\x89PNG"
    assert "<table>" in dataset._repr_html_()
    assert "box-inverted" in dataset._repr_html_()
    assert "objects owning" in ytrue.audit(dataset, ENCODER)._repr_html_()
    assert dataset[dataset.index_of("not_there.jpg")]._repr_png_() is None


def test_tables_say_what_was_found(dataset):
    console = Console(record=True, width=140)
    viz.print_dataset(dataset, console)
    viz.print_problems(dataset, console)
    viz.print_audit(ytrue.audit(dataset, ENCODER), console)
    said = console.export_text()
    for part in (
        "8 images",
        "4 classes",
        f"{len(dataset.problems)} problems",
        "1 x box-inverted (dropped)",
        "best IoU p10",
        "square",
    ):
        assert part in said
    console = Console(record=True, width=140)
    viz.print_problems(replace(dataset, problems=()), console)
    assert console.export_text().strip() == "no problems found"


def test_contact_sheet_and_audit_figures_draw(dataset):
    assert len(viz.show_dataset(dataset, 5).axes) == 5
    assert len(viz.show_audit(ytrue.audit(dataset, ENCODER)).axes) == 6
    assert viz.png_bytes(viz.show_audit(ytrue.audit(dataset.subset([]), ENCODER)))


def test_nothing_global_is_touched():
    code = (
        "import matplotlib, sys\n"
        "settings = lambda: {k: dict.__getitem__(matplotlib.rcParams, k) for k in matplotlib.rcParams}\n"
        "before = settings()\n"
        "import ytrue.viz\n"
        "print('matplotlib.pyplot' in sys.modules, settings() == before, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "False"]


def test_few_objects_make_an_audit_figure_too():
    class One:
        classes = ("cat",)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return ytrue.Example(
                0, "a.jpg", 4000, 4000, Annotations([(0, 0, 9, 9), (0, 0, 3999, 3999)], [0, 0])
            )

    for encoder in (ENCODER, preset("ytrue", 2048, 4)):
        assert viz.png_bytes(viz.show_audit(ytrue.audit(One(), encoder)))


def test_masks_are_drawn_on_their_cells_with_the_anchors_that_learn_them():
    encoder = MaskEncoder(preset("ytrue", (64, 64), 3, max_level=4), stride=8)
    square = [(8, 8), (8, 40), (40, 40), (40, 8)]
    objects = Annotations(
        [(8, 8, 40, 40), (40, 40, 60, 60), (5, 5, 5, 20)], [0, 1, 2], polygons=[[square], [], []]
    )
    grey = np.full((64, 64, 3), 100, np.uint8)
    assignment = encoder.explain(objects)
    figure = viz.show_masks(grey, assignment, encoder, classes=("a", "b", "c"))
    (axes,) = figure.axes
    shown = np.asarray(axes.images[0].get_array())
    changed = (shown != 100).any(axis=-1)
    assert changed[8:40, 8:40].all()
    assert changed.sum() == 32 * 32
    dots = [len(part.get_offsets()) for part in axes.collections]
    assert dots == assignment.positives.tolist()
    words = [text.get_text() for text in axes.texts]
    assert f"#1 b: {assignment.positives[1]}, no mask" in words
    assert "#2 c: lost, no-area" in words
    assert "3 objects, 1 lost; of 2 that own anchors 1 teach a mask" in figure.texts[0].get_text()
    alone = viz.show_masks(grey, assignment, encoder, object=1)
    assert alone.axes[0].get_xlim()[0] > 30
    assert "it has no mask" in alone.texts[0].get_text()
    with pytest.raises(ValueError, match="object=3: the image has 3 objects, from 0"):
        viz.show_masks(grey, assignment, encoder, object=3)
    assert len(viz.png_bytes(viz.show_masks(grey, encoder.explain(Annotations()), encoder))) > 1000


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("café", "café"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31m", "\\x1b[31m"),
        ("car \U00013000", "car ?"),  # a hieroglyph that DejaVu lacks
    ],
)
def test_what_no_font_holds_is_drawn_as_a_question_mark(name, drawn, monkeypatch):
    monkeypatch.setattr(style, "families", lambda: ["DejaVu Sans"])
    style._is_held.cache_clear()
    assert style.drawable(name) == drawn
    assert class_name([name], 0) == ("class 0" if "?" in drawn else drawn.replace("\n", "\\n"))
    style._is_held.cache_clear()


def test_a_picture_of_foreign_names_warns_of_nothing(recwarn):
    figure = style.new_figure(200, 100)
    axes = figure.subplots()
    axes.set_title("\U00013000 \U00012000")
    axes.barh([0, 1], [1, 2])
    style.finish(axes, "\U00013000")
    for kind in (style.png_bytes, style.jpeg_bytes, viz.picture):
        assert len(kind(figure)) > 0
    assert not [str(warning.message) for warning in recwarn]


def test_a_page_shows_photographs_of_the_worst_images(tmp_path):
    dataset = load(write_shapes(tmp_path / "a b", num_images=3, image_size=(64, 96)))
    report = ytrue.audit(dataset, ENCODER)
    example = dataset[1]
    one = Photograph(
        example.image_id, "2 of 9 objects <lost>", example.path, lambda: viz.show_example(example)
    )
    page = viz.report_html(report, tmp_path / "pages" / "a.html", photographs={"": [one]})
    said = page.read_text()
    assert "<h2>The worst images</h2>" in said
    assert f'<a href="../a%20b/images/{example.path.name}">{example.image_id}</a>' in said
    assert "2 of 9 objects &lt;lost&gt;" in said
    assert said.count("data:image/jpeg;base64,") == 1
    without = replace(one, file=None)
    viz.report_html(report, page, photographs={"": [without]})
    assert "<a href" not in page.read_text()
