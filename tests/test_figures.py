"""gpt2_figures: labels and pages within the page, whatever the tokens are;
shapes that say what they are given; functions that can be read at a glance."""
import ast
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

import gpt2_figures
from gpt2_figures.attention import head_viewer
from gpt2_figures.shapes import (bars, heatmap, lines, log_x, name_rows,
                                 smooth, stacked, swatch, write)
from gpt2_figures.style import COLORS, canvas, on, picture, short, tint, visible

MODULES = sorted(Path(gpt2_figures.__file__).parent.glob("*.py"))


def words(ax):
    """What is written on the axes, without empty texts."""
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("token, label", [
    ("self", "self"), (" self", "·self"), ("\n", "↵"), ("\n    ", "↵4"),
    ("\n\n   ", "↵↵3"), ("    ", "····"), ('."""\n', '."""↵'), ("", ""),
    ("abcdefghijklm", "abcdefghijk…"), ("abcdefghijkl", "abcdefghijkl"),
])
def test_visible(token, label):
    assert visible(token) == label


def test_the_head_viewer_holds_any_token():
    words = ["</script>", "<b>", "\n        ", "“&”"]
    even = [[1 / (i + 1)] * (i + 1) + [0.0] * (3 - i) for i in range(4)]
    viewer = head_viewer(words, [[even, even]], layer=0, head=1)
    assert viewer.html.count("</script>") == 1           # its own
    assert "<b>" not in viewer.html.split("<script>")[0]
    assert "↵8<small>25%" in viewer.html
    assert "In layer 0, head 2, " in viewer.html
    assert "25%" in viewer.html and "$" not in viewer.html


@pytest.mark.parametrize("token, label", [
    (" self ", "self"), ("\n    ", "↵4"), ("   ", "···"), ("a b", "a b")])
def test_short(token, label):
    assert short(token) == label


def test_bars_say_their_values_in_the_order_of_their_names():
    fig, ax = canvas()
    bars(ax, [3.0, 0.25, -1.0], ["query", "key", "#123456"], "{:.1f}", 0.1,
         ink=["ink", "muted", "ink"])
    name_rows(ax, {"a": 3, "b": 0, "c": -1})
    assert words(ax) == ["3.0", "0.2", "-1.0"]
    assert [round(p.get_width(), 2) for p in ax.patches] == [3, 0.25, -1]
    assert [to_hex(p.get_facecolor()) for p in ax.patches] == [
        COLORS["query"], COLORS["key"], "#123456"]
    assert [text.get_position()[0] for text in ax.texts] == [3.1, 0.35, 0.1]
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abc")
    assert ax.yaxis_inverted()                   # the first stands on top


def test_upright_bars_take_a_function_for_the_words():
    fig, ax = canvas()
    bars(ax, [1, 0.5], "head", lambda p: "sure" if p == 1 else f"{p:.0%}", 0,
         upright=True)
    assert words(ax) == ["sure", "50%"]
    assert [p.get_height() for p in ax.patches] == [1, 0.5]


def test_stacked_bars_lie_end_to_end_and_name_the_long_parts():
    fig, ax = canvas()
    stacked(ax, {"small": {"a": 0.3, "b": 0.7}, "large": {"a": 0.02, "b": 1}},
            {"a": "query", "b": tint("key", 0.5)}, "{:.0%}", 0.05)
    assert words(ax) == ["30%", "70%", "100%"]
    assert [round(p.get_x(), 2) for p in ax.patches] == [0, 0.3, 0, 0.02]
    assert [text.get_color() for text in ax.texts] == [
        "white", COLORS["ink"], COLORS["ink"]]
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]     # each once


def test_lines_are_named_and_begin_where_they_say():
    fig, ax = canvas()
    lines(ax, {"a": [1, 2], "b": [3, 4]}, ("right", "wrong"), first=70)
    assert [list(line.get_xdata()) for line in ax.lines] == [[70, 71]] * 2
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]
    log_x(ax, [64, 1024], 2)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "1,024"]
    assert not len(ax.get_xticks(minor=True))


def test_smooth_is_the_mean_of_what_came_before():
    assert smooth([1, 2, 3, 10], 2) == [1, 1.5, 2.5, 6.5]
    assert smooth([4, 8], 1) == [4, 8]
    assert smooth([]) == []


@pytest.mark.parametrize("color, ink", [
    ("head", "white"), ("ink", "white"), ("line", COLORS["ink"]),
    ("#ffffff", COLORS["ink"]), ((0.1, 0.2, 0.5), "white")])
def test_words_can_be_read_on_their_colour(color, ink):
    assert on(color) == ink


def test_a_heat_map_writes_every_number():
    fig, ax = canvas()
    heatmap(ax, [[0.0, 1.0], [0.5, 0.25]], "head", vmin=0, numbers=".2f",
            rows=["a", "b"], columns=["c", "d"])
    assert words(ax) == ["0.00", "1.00", "0.50", "0.25"]
    assert ax.texts[0].get_color() == COLORS["ink"]
    assert ax.texts[1].get_color() == "white"
    heatmap(canvas()[1], [[0.0, 0.0]], "diverging")        # no division by 0


def test_a_swatch_and_words_take_a_colour_by_its_name():
    fig, ax = canvas()
    swatch(ax, 0, 0, 2, 1, "key", "keys", gap=0.5)
    write(ax, 0, 0, "paler", tint("key", 0.5))
    assert to_hex(ax.patches[0].get_facecolor()) == COLORS["key"]
    assert ax.texts[0].get_position() == (2.5, 0.5)
    assert ax.texts[1].get_color() == tint("key", 0.5)


def test_a_picture_and_a_page_say_in_words_what_they_show():
    data, metadata = picture(canvas()[0], "an empty chart")._repr_mimebundle_()
    assert data["text/plain"] == "Picture: an empty chart"
    assert metadata["image/png"]["alt"] == "an empty chart"
    viewer = head_viewer([" a", "b"], [[[[1, 0], [0.5, 0.5]]]], 0, 0)
    assert viewer._repr_mimebundle_()["text/plain"].startswith("Viewer: the")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_can_be_read(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 500
    long = {node.name: node.end_lineno - node.lineno + 1
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef)
            and node.end_lineno - node.lineno >= 25}
    assert not long, f"{path.name}: over 25 lines: {long}"
