"""Corpora by name: what every Python has, one download, two of the hub."""
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from gpt2.files.download import Source, fetch
from gpt2.files.errors import DataError
from gpt2.files.text import Document, read_files

# Tests hold odd encodings and generated tables; site-packages is another
# corpus; the last kinds differ from one build of Python to the next.
TESTS = {"test", "tests", "idle_test"}
NOT_STDLIB = {"site-packages", "dist-packages", "__pycache__"}
BUILD_MADE = ("config-", "_sysconfigdata", "_sysconfig_vars", "sitecustomize")


def stdlib_files(tests: bool = False) -> list[Path]:
    """The .py files of this Python's standard library, sorted by path."""
    lib = Path(sysconfig.get_path("stdlib"))
    skipped = NOT_STDLIB if tests else NOT_STDLIB | TESTS
    found = []
    for path in sorted(lib.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(lib).parts
        if skipped.isdisjoint(parts[:-1]) and not any(
                part.startswith(BUILD_MADE) for part in parts):
            found.append(path)
    return found


def stdlib(tests: bool = False) -> Iterator[Document]:
    """The standard library's sources: the corpus that every Python has."""
    return read_files(stdlib_files(tests), sysconfig.get_path("stdlib"))


def site_packages() -> Iterator[Document]:
    """All .py files that are installed in this environment."""
    base = Path(sysconfig.get_path("purelib"))
    return read_files(sorted(base.rglob("*.py"), key=Path.as_posix), base)


def streamed(repository: str, **options) -> Iterator[Document]:
    """A text corpus of the Hugging Face hub, read while it arrives.

    options: for `datasets.load_dataset`. Raises DataError without it.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(f"{repository} is read with the library `datasets`,"
                        " which is not installed:"
                        ' pip install "gpt2-book[data]"') from None
    rows = load_dataset(repository, split="train", streaming=True, **options)
    for number, row in enumerate(rows):
        yield Document(f"{repository}:{number}", row["text"])


LONG, PASSAGE = 100_000, 10_000               # characters


def passages(document: Document) -> Iterator[Document]:
    """A long text in passages, cut at blank lines, or at line ends where
    none comes for LONG characters; others as they are.

    Texts of less than LONG characters and .py files stay whole. All
    passages but the last have at least PASSAGE characters.
    """
    text = document.text or ""
    if len(text) < LONG or document.name.lower().endswith(".py"):
        yield document
        return
    start = 0
    while start < len(text):
        end, gap = text.find("\n\n", start + PASSAGE, start + LONG), 2
        if end < 0:
            end, gap = text.find("\n", start + PASSAGE), 1
        end = len(text) if end < 0 else end + gap
        yield Document(f"{document.name}@{start}", text[start:end])
        start = end


SHAKESPEARE = Source(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/"
    "data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    name="shakespeare.txt")

CORPORA = {
    "stdlib": stdlib,
    "stdlib+tests": lambda: stdlib(tests=True),
    "site-packages": site_packages,
    "shakespeare": lambda: passages(
        Document("shakespeare", fetch(SHAKESPEARE).read_text("utf-8"))),
    "openwebtext": lambda: streamed("Skylion007/openwebtext"),
    "fineweb-edu": lambda: streamed("HuggingFaceFW/fineweb-edu",
                                    name="sample-10BT"),
}
