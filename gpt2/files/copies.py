"""Near copies: texts that share their long lines."""
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gpt2.files.text import Document

LONG_LINE, COPIED = 30, 0.25       # characters; the share that is too much


def long_lines(text: str) -> list[int]:
    """A hash of each line of LONG_LINE characters or more, without the
    spaces around it. Equal in one process, not between two."""
    lines = map(str.strip, text.split("\n"))
    return [hash(line) for line in lines if len(line) >= LONG_LINE]


def share_known(text: str, known: Tensor) -> float:
    """The part of a text's long lines that stand in known, (N,) sorted."""
    lines = torch.tensor(long_lines(text), dtype=torch.long)
    if not len(lines) or not len(known):
        return 0.0
    at = torch.searchsorted(known, lines).clamp(max=len(known) - 1)
    return float((known[at] == lines).double().mean())


def without_quotes(documents: Iterable[Document],
                   held: list[Document]) -> Iterator[Document]:
    """The documents that are near copies of none in held: they share at most
    COPIED of their long lines, and at most COPIED of its."""
    sides = [set(long_lines(d.text)) for d in held]
    owners = {}                      # of a line: the held documents with it
    for i, lines in enumerate(sides):
        for line in lines:
            owners.setdefault(line, []).append(i)
    for document in documents:
        lines = set(long_lines(document.text or ""))
        shared = Counter(i for line in lines & owners.keys()
                         for i in owners[line])
        if all(count <= COPIED * min(len(lines), len(sides[i]))
               for i, count in shared.items()):
            yield document
