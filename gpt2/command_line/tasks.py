"""The tasks of `python -m gpt2 evaluate --task`, by name."""
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpt2.files.download import Source, fetch
from gpt2.files.errors import DataError
from gpt2.files.task_files import (SOURCES, read_cbt, read_lambada,
                                   read_winograd)
from gpt2.files.text import read_lines
from gpt2.files.whole import file_sum
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer
from gpt2.zero_shot import (evaluate_choices, evaluate_lambada,
                            evaluate_wikitext, evaluate_winograd,
                            measure_text, text_numbers)


class Task(NamedTuple):
    """A measurement by name: its data, how it reads and evaluates them."""
    source: Source | None                     # None: any file of one's own
    read: Callable[[Path], list]              # documents, questions, lines
    evaluate: Callable[..., dict]
    columns: dict[str, str] = {}              # our number: Table 3's column


def evaluate_text(model: GPT2, tokenizer: Tokenizer, lines: list[str],
                  **options) -> dict:
    """Loss on any text, as it is."""
    text = "\n".join([*lines, ""])
    return text_numbers(measure_text(model, tokenizer, text, **options))


TASKS = {
    "lambada": Task(SOURCES["lambada"], read_lambada, evaluate_lambada, {
        "perplexity": "LAMBADA perplexity",
        "accuracy_stop_words": "LAMBADA accuracy"}),
    "wikitext2": Task(
        SOURCES["wikitext2"], read_lines, evaluate_wikitext, {
            "perplexity": "WikiText2 perplexity"}),
    "winograd": Task(SOURCES["winograd"], read_winograd, evaluate_winograd),
    "cbt-cn": Task(SOURCES["cbt-cn"], read_cbt, evaluate_choices, {
        "accuracy": "CBT-CN accuracy"}),
    "cbt-ne": Task(SOURCES["cbt-ne"], read_cbt, evaluate_choices, {
        "accuracy": "CBT-NE accuracy"}),
    "text": Task(None, read_lines, evaluate_text),
}
WINDOWED = {"wikitext2", "text"}              # tasks that take a stride


def evaluate_task(name: str, model: GPT2, tokenizer: Tokenizer,
                  data: str | Path | None = None, *,
                  limit: int | None = None, **options) -> dict:
    """The numbers of one task in TASKS, with the SHA-256 of its data.

    data: a local file; by default the published one. limit: only so many
    documents. options: stride, of WINDOWED tasks; those of `score`. Raises
    ValueError; DataError for data that cannot be had.
    """
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; there are {', '.join(TASKS)}.")
    if name not in WINDOWED and options.pop("stride", None) is not None:
        raise ValueError(f"{name} has no windows and no stride.")
    source, read, evaluate, _ = TASKS[name]
    path = data_file(name, source, data)
    if not (documents := read(path)[:limit]):
        raise DataError(f"{path} is empty.")
    found = evaluate(model, tokenizer, documents, **options)
    total, known = file_sum(path), source and source.sha256
    return {"task": name, "file": path.name, "sha256": total,
            "as_published": known and total == known, **found}


def data_file(name: str, source: Source | None,
              data: str | Path | None) -> Path:
    """The file that a task reads: a local one, or its own. DataError."""
    if data is None and source is None:
        raise DataError(f"{name} measures a file of yours: name it.")
    path = fetch(source) if data is None else Path(data)
    if not path.is_file():
        raise DataError(f"{path} is no file.")
    return path
