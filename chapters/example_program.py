"""Count the words of text files and print the most common ones."""
import argparse
import re
from collections import Counter

WORD = re.compile(r"[a-z]+(?:-[a-z]+)*", re.IGNORECASE)


def count_words(path, encoding="utf-8", errors="strict"):
    """Return a Counter of all words in the file at path, in lower case."""
    counts = Counter()
    with open(path, encoding=encoding, errors=errors) as file:
        for line in file:
            counts.update(word.lower() for word in WORD.findall(line))
    return counts


class Report:
    """The most common words, each with its share of the whole."""

    def __init__(self, counts, limit=10):
        if not isinstance(limit, int) or limit < 1:
            raise ValueError("limit must be positive, not %r" % limit)
        self.counts = counts
        self.limit = limit
        self.total = sum(counts.values())

    def __iter__(self):
        if self.total == 0:
            return
        for word, count in self.counts.most_common(self.limit):
            yield word, count / self.total
