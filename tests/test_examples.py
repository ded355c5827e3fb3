"""The Python examples of README.md and index.md run and give what they say."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["README.md", "index.md"])
def test_example(name):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text("utf-8"),
                        flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"{name} has no Python example"
    for code in blocks:
        names = {}
        exec(compile(code, name, "exec"), names)
        said = re.search(r"logits\s+# (\(.*\))", code)[1]
        assert str(tuple(names["logits"].shape)) == said
