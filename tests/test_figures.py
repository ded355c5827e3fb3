"""gpt2_figures: labels and pages within the page, whatever the tokens are."""
import pytest

pytest.importorskip("matplotlib")

from gpt2_figures.attention import head_viewer
from gpt2_figures.style import visible


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
