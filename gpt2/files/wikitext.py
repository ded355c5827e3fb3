"""WikiText's lines as one would write them, and back: its tokenization undone.

Every rule is a pair, there and back; what cannot be undone is not done.
"""
import re
from functools import partial


def _rule(tokenized: str, text: str, joined: str, back: str):
    """A pair of functions, there and back, from two patterns."""
    return partial(re.compile(tokenized).sub, text), partial(
        re.compile(joined).sub, back)


WIKITEXT_RULES = [
    _rule("^ ", "", "^", " "), _rule(" $", "", "(?<=.)$", " "),
    _rule(" @-@ ", "-", r"(?<=[^\s-])-(?=[^\s-])", " @-@ "),
    _rule(" @,@ ", ",", r"(?<=\d),(?=\d)", " @,@ "),
    _rule(r" @\.@ ", ".", r"(?<=\d)\.(?=\d)", " @.@ "),
    _rule(r"(?<=\S) '(?=\w)", "'", r"(?<=\S)'(?=\w)", " '"),
    _rule("(?<=s) '(?= )", "'", "(?<=s)'(?= )", " '"),
    _rule(r"(?<!\S)([(\[$£€¥]) (?=\S)", r"\1",
          r"(?<!\S)([(\[$£€¥])(?=\S)", r"\1 "),
    _rule(r"(?<=\S) ([)\]])(?!\S)", r"\1", r"(?<=\S)([)\]])(?!\S)", r" \1"),
    _rule(r"(?<=\d) – (?=\d)", "–", r"(?<=\d)–(?=\d)", " – "),
    _rule(r"(?<=\d) %", "%", r"(?<=\d)%", " %"),
    _rule(r"(?<=\S) ([,;:!?])(?!\S)", r"\1",
          r"(?<=\S)([,;:!?])(?!\S)", r" \1"),
    _rule(r"(?<=\S)(?<!\b[A-Z])(?<!\b[A-Z][a-z]) \.(?!\S)", ".",
          r"(?<=[^\s.])(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\.\w)\.(?!\S)", " ."),
]


def join_quotes(line: str) -> str:
    """`said " yes " .` -> `said "yes" .`: of two quotes the first opens."""
    parts = line.split('"')
    for i in range(1, len(parts)):
        if i % 2:
            parts[i] = parts[i].removeprefix(" ")
        else:
            parts[i - 1] = parts[i - 1].removesuffix(" ")
    return '"'.join(parts)


def split_quotes(line: str) -> str:
    """The other way round."""
    parts = line.split('"')
    for i in range(1, len(parts)):
        if i % 2:
            parts[i] = " " + parts[i]
        else:
            parts[i - 1] += " "
    return '"'.join(parts)


WIKITEXT_RULES.append((join_quotes, split_quotes))


def retokenize(text: str) -> str:
    """The line of WikiText from which `detokenize` made this text."""
    if text.startswith(" "):                   # was left as it is
        return text
    for there, back in reversed(WIKITEXT_RULES):
        before = back(text)
        if there(before) == text:
            text = before
    return text


def detokenize(line: str) -> str:
    """A line of WikiText as one would write it; `retokenize` undoes it.

    A rule that could not be undone here is not applied here; a line that
    would not come back is returned as it is. Raises ValueError for a line
    without the space that every line of WikiText begins with.
    """
    if not line.startswith(" "):
        raise ValueError(f"{line!r:.40} is no line of WikiText, which begins"
                         " with a space.")
    text = line
    for there, back in WIKITEXT_RULES:
        after = there(text)
        if back(after) == text:
            text = after
    return text if retokenize(text) == line else line


def detokenize_text(text: str) -> str:
    """All lines of a text, each by itself. Raises ValueError."""
    lines = text.removesuffix("\n").split("\n")
    return "".join(detokenize(line) + "\n" for line in lines)
