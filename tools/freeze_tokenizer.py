"""Train the small tokenizer of this book and freeze it in checkpoints/nano.

    python tools/freeze_tokenizer.py            # refuses if it is there already
    python tools/freeze_tokenizer.py --force    # replaces it
    python tools/freeze_tokenizer.py --check    # same files here? then compare

Every model of this book depends on these two files: another Python version
has other sources and gives other merges, and a model trained with one
tokenizer cannot read the ids of another. That is why they are frozen.
"""

import argparse
import hashlib
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpt2.files.corpora import stdlib_files  # noqa: E402
from gpt2.files.text import read_text  # noqa: E402
from gpt2.tokenizer import Tokenizer  # noqa: E402

VOCAB_SIZE = 4096
HOME = ROOT / "checkpoints" / "nano"
FILES = ("vocab.json", "merges.txt")


def sources():
    """The standard library's .py files, sorted, without tests."""
    yield from stdlib_files()


def read(paths):
    """Their texts, one line ending on every system; not UTF-8: left out."""
    for path in paths:
        if (text := read_text(path)) is None:
            print(f"left out, not UTF-8: {path}", file=sys.stderr)
        else:
            yield text


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def fingerprint(texts):
    """One number for all texts, in their order."""
    return sha256("\0".join(texts).encode("utf-8"))


def same_sources(texts, folder=HOME):
    """Was the tokenizer in `folder` trained on exactly these texts?"""
    return fingerprint(texts) in (folder / "README.md").read_text("utf-8")


def readme(texts, folder):
    """What was trained, on what, and how to tell that it is the same."""
    sums = "\n".join(f"| `{name}` | `{sha256((folder / name).read_bytes())}` |"
                     for name in FILES)
    return f"""\
# nano: the small tokenizer and model of this book

`vocab.json` and `merges.txt` hold a byte-level BPE tokenizer in GPT-2's
format: {VOCAB_SIZE:,} entries (256 bytes, {VOCAB_SIZE - 257:,} merges, then
`<|endoftext|>` as id {VOCAB_SIZE - 1:,}). It was trained once, by the code of
[chapter 02](../../chapters/02_tokenizer.ipynb), and is frozen: every chapter
loads it, and a model trained with it can be read with no other. The model is
`model.safetensors`; [RUN.md](RUN.md) says how it was trained.

| | |
|---|---|
| made by | `python tools/freeze_tokenizer.py` |
| Python | {platform.python_version()} ({platform.python_implementation()}) |
| trained on | the standard library's {len(texts):,} `.py` files, without its tests |
| text | {sum(len(t.encode('utf-8')) for t in texts):,} bytes, sha256 `{fingerprint(texts)}` (files joined by a NUL byte) |

| file | sha256 |
|---|---|
{sums}

```python
from gpt2.tokenizer import Tokenizer

tokenizer = Tokenizer.load("checkpoints/nano")
tokenizer.encode("A robot must obey the orders given it")
```

`python tools/freeze_tokenizer.py --check` trains again and compares, where
the running Python has the same source files.
"""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true",
                        help="replace the frozen files")
    parser.add_argument("--check", action="store_true",
                        help="write nothing; train again and compare")
    parser.add_argument("--to", type=Path, default=HOME, metavar="FOLDER",
                        help="another folder (for trying)")
    options = parser.parse_args(argv)
    there = [name for name in FILES if (options.to / name).exists()]
    if there and not (options.force or options.check):
        parser.exit(1, f"{options.to} holds {' and '.join(there)} already, and "
                    "models depend on them; --force replaces them\n")
    texts = list(read(sources()))
    tokenizer = Tokenizer.train(texts, VOCAB_SIZE)
    if not options.check:
        tokenizer.save(options.to)
        (options.to / "README.md").write_bytes(
            readme(texts, options.to).encode("utf-8"))
        print(f"{len(texts):,} files → {options.to}")
        return 0
    if not same_sources(texts, options.to):
        print(f"Python {platform.python_version()} has other sources than"
              f" {options.to / 'README.md'} records: nothing to compare")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        for name in FILES:
            if (Path(folder, name).read_bytes()
                    != (options.to / name).read_bytes()):
                print(f"{options.to / name}: the same sources give another"
                      " file", file=sys.stderr)
                return 1
    print("the same sources give the same files, byte for byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
