"""The files of published tasks: where they are had, and how they are read."""
import json
import re
from pathlib import Path
from typing import NamedTuple

from gpt2.files.download import Source
from gpt2.files.errors import DataError
from gpt2.files.text import read_jsonl, read_lines

_CBT = "http://www.thespermwhale.com/jaseweston/babi/CBTest.tgz"
SOURCES = {
    "lambada": Source(
        "https://openaipublic.blob.core.windows.net/gpt-2/data/"
        "lambada_test.jsonl",
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226"),
    "wikitext2": Source(
        "https://huggingface.co/datasets/ggml-org/ci/resolve/main/"
        "wikitext-2-raw-v1.zip",
        "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
        "wikitext-2-raw/wiki.test.raw"),
    "winograd": Source(
        "https://raw.githubusercontent.com/mosaicml/llm-foundry/fea94b12e1d5"
        "5d50d28f0e53e3af53447b095181/scripts/eval/local_data/"
        "language_understanding/winograd_wsc.jsonl",
        "746336c27cd2e39a554cb1b8b4869d0f1ae2577ac5bfe799842d26bca5a5bf5e"),
    "cbt-cn": Source(_CBT, None, "CBTest/data/cbtest_CN_valid_2000ex.txt"),
    "cbt-ne": Source(_CBT, None, "CBTest/data/cbtest_NE_valid_2000ex.txt"),
}


class Question(NamedTuple):
    """Options, (context, what is scored) each; which one is right."""
    options: list[tuple[str, str]]
    gold: int


# --- LAMBADA ----------------------------------------------------------------
def read_lambada(path: str | Path) -> list[tuple[str, str]]:
    """(passage without its last word, space and last word) of each line.

    The file has {"text": "..."} on every line. Raises DataError.
    """
    found = []
    for name, text, _ in read_jsonl(Path(path), Path(path).name):
        context, space, word = text.rstrip().rpartition(" ")
        if not (context and word):
            raise DataError(f"{name} has fewer than two words.")
        found.append((context, space + word))
    return found


# --- the Children's Book Test ------------------------------------------------
_TREEBANK = [
    (r"-LRB- ?", "("), (r" ?-RRB-", ")"), (r"`` ?", '"'), (" ?''", '"'),
    (r" n't\b", "n't"), (r" '(s|m|d|re|ve|ll)\b", r"'\1"),
    (r" ([,.;:!?])", r"\1"), ("(?<!\\S)` ", "'"), (r" '(?!\S)", "'")]


def join_treebank(text: str) -> str:
    """Text that is cut as in the Penn Treebank, as one would write it."""
    for pattern, new in _TREEBANK:
        text = re.sub(pattern, new, text)
    return text


def read_cbt(path: str | Path) -> list[Question]:
    """The Children's Book Test: blocks of 21 numbered lines. DataError."""
    found, sentences = [], []
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            place = f"{path}, line {number}"
            count, _, text = line.strip().partition(" ")
            if count != str(len(sentences) + 1):
                raise DataError(f"{place}: expected a line that begins with"
                                f" {len(sentences) + 1}.")
            sentences.append(text)
            if len(sentences) == 21:
                found.append(cbt_question(sentences[:20], text, place))
                sentences = []
    return found


def cbt_question(sentences: list[str], last: str, place: str) -> Question:
    """From 20 sentences and the 21st line: question, answer, candidates."""
    fields = [field for field in last.split("\t") if field]
    if len(fields) != 3 or fields[0].count("XXXXX") != 1:
        raise DataError(f"{place}: expected a sentence with one XXXXX, the"
                        " answer, and candidates, with tabs between them.")
    candidates = fields[2].split("|")
    if fields[1] not in candidates:
        raise DataError(f"{place}: the answer {fields[1]!r} is no candidate.")
    text = join_treebank(" ".join([*sentences, fields[0]]))
    before, _, after = text.partition("XXXXX")
    return Question([(before, candidate + after) for candidate in candidates],
                    candidates.index(fields[1]))


# --- Winograd schemas -------------------------------------------------------
def read_winograd(path: str | Path) -> list[Question]:
    """Schemas, one JSON object a line: `context_options` (the text up to the
    pronoun, with each candidate in its place), `continuation`, `gold`.

    Raises DataError, naming the line.
    """
    found = []
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            try:
                row = json.loads(line)
                rest = row["continuation"].strip()
                rest = rest if rest[0] in ".,;:!?'" else " " + rest
                options = [(str.strip(context), rest)
                           for context in row["context_options"]]
                "".join(map("".join, options)).encode()   # no lone surrogate
                found.append(Question(options, range(len(options))[
                    row["gold"]]))
            except (ValueError, LookupError, TypeError, AttributeError,
                    RecursionError):
                raise DataError(f"{path}, line {number}: expected an object"
                                " with context_options, continuation and"
                                " gold.") from None
    return found
