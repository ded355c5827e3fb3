"""gpt2.command_line.bodies: headers, bodies, and who writes what parses."""
import pytest
from small_runs import new_model

from gpt2.command_line import bodies
from gpt2.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints" / "nano")


def test_function_headers():
    source = ("import x\n"
              "def one(): return 1\n"
              "async def two(a,\n"
              "              b):\n"
              "    pass\n"
              "class C:\n"
              "    def three(self):\n"
              '        """Doc."""\n')
    found = list(bodies.function_headers(["def (", source, "a\0b"]))
    assert [(h.context.splitlines()[-1].strip(), h.indent) for h in found] \
        == [("b):", 0), ("def three(self):", 4)]
    assert all(h.context.endswith(":") for h in found)


def test_a_header_ends_before_a_decorator():
    """The body of the outer function begins at `@cache`, not at `def g`."""
    source = ("def f(a):\n    @cache\n    def g(b):\n        return b\n"
              "    return g\n"
              "def h(a):\n    @one\n    @two(\n        3)\n"
              "    class C:\n        x = 1\n    return C\n")
    lines = [h.context.splitlines()[-1].strip()
             for h in bodies.function_headers([source])]
    assert lines == ["def f(a):", "def h(a):", "def g(b):"]


DEEP = ["- " * 3_000 + "1", "not " * 4_000 + "x", "-" * 60_000 + "1",
        "a" + ".b" * 40_000, " + ".join(["1"] * 20_000), "(" * 500 + ")" * 500]


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_what_python_cannot_parse(text):
    """Too deep for Python's parser: it does not parse, and that is all."""
    bodies.parses(f"\n    x = {text}\n")           # True or False, no error
    fine = "def f():\n    return 1\n"
    found = list(bodies.function_headers([f"x = {text}\n{fine}", fine]))
    assert 1 <= len(found) <= 2


@pytest.mark.parametrize("text, indent, body", [
    ("\n    a\n    b\nc\n", 0, "\n    a\n    b\n"),
    ("\n    a\n\n    b\n", 0, "\n    a\n\n"),
    ("\n        a\n    def g():\n", 4, "\n        a\n"),
    ("\n    a\n  # comment\nx\n", 0, "\n    a\n  # comment\n"),
    ("  # why\n    a\nx\n", 0, "  # why\n    a\n"),
    (" return 1\nx\n", 0, " return 1\n"),
    ("\nx\n", 0, "\n"), ("", 0, ""), ("\n    cut off he", 0, "\n")])
def test_bodies(text, indent, body):
    assert bodies.body_of(text, indent) == body


def test_parses():
    assert bodies.parses("\n    return 1\n")
    assert bodies.parses(" return 1\n")
    assert bodies.parses("\n        await x\n")
    assert bodies.parses('\n    return "\\d"\n')         # a warning, no more
    for bad in ("", "\n", "\n    return (\n", "\n    x = \0\n",
                "\nreturn 1\n    x\n"):
        assert not bodies.parses(bad)


def test_bodies_that_were_written_by_people(tokenizer, root):
    """The true continuation of every header of this package parses."""
    sources = [path.read_text("utf-8") + "\nend = True\n" for path in
               (root / "gpt2" / "command_line").glob("*.py")]
    headers = [[*bodies.function_headers([text])] for text in sources]
    true = [text[len(header.context):] for text, found in zip(
        sources, headers) for header in found]
    headers = sum(headers, [])
    found = bodies.parse_rate(headers, true, tokenizer)
    assert found["rate"] == 1 and found["bodies"] > 40


def test_write_and_rate(tokenizer):
    contexts = ["def f(x):", "x = 1\n" * 60 + "def g():", ""]
    written = list(bodies.write_with(new_model(), tokenizer, contexts,
                                       new=12, batch_size=2))
    assert len(written) == 3 and all(isinstance(w, str) for w in written)
    headers = [bodies.Header(c, 0) for c in contexts]
    found = bodies.parse_rate(
        headers, ["\n    return x + 1\nx", "\n    return (\nx", "x"],
        tokenizer, minimum=2)
    assert found == {"headers": 3, "bodies": 2, "parse": 1, "rate": 0.5}
