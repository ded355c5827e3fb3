"""What commands ask for: kinds of options, texts, the book's own model."""
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gpt2.data import CORPORA
from gpt2.files.text import as_text

PROGRAM = "python -m gpt2"
NANO = Path(__file__).resolve().parents[2] / "checkpoints" / "nano"
MODEL = "A directory in Hugging Face's format, or a name on its hub."
OWN_NAME = "the book's own small model"
OWN = f"{MODEL} By default {OWN_NAME}."
DATA = (f"{', '.join(CORPORA)}; or a file, a folder, a glob of text or"
        " .jsonl.")


def option(kind, help: str, *names: str, **settings):
    """The type of a parameter, with what --help says of it."""
    return Annotated[kind, typer.Option(*names, help=help, **settings)]


def filled(value: str | None) -> str | None:
    """The value of an option; a variable of the shell that is not set makes
    it empty, which must not mean the default."""
    if value == "":
        raise typer.BadParameter("it is empty; name something, or leave the"
                                 " option out.")
    return value


def filled_path(value: str) -> Path:
    """The same of an option that names a file or a folder."""
    return Path(filled(value))


located = partial(option, parser=filled_path)
flag = partial(option, bool)
named = partial(option, str | None, callback=filled)
whole = partial(option, int | None, metavar="N")
real = partial(option, float | None, metavar="X")
seeded = partial(whole, min=0, max=2 ** 32 - 1)
Model = named(OWN, metavar="MODEL")
Device = named("cpu, cuda, cuda:1, mps ... By default CUDA, if there is one.",
               metavar="NAME")
Workers = whole("Processes that tokenize; 0: one for each core.", min=0)


def examples(*lines: str) -> str:
    """The end of a help text; \\b keeps its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def refuse(wrong: object, what: str, why: str) -> None:
    """An error of this option or argument, if something is wrong."""
    if wrong:
        raise typer.BadParameter(why, param_hint=what)


def given(text: str | None,
          read: Callable[[bytes], str] = as_text) -> str | None:
    """A text, or standard input for `-`, or for None if that is piped.

    read: from bytes in UTF-8; by default as all text is read for a model.
    """
    name, piped = "the text", sys.stdin and not sys.stdin.isatty()
    if text == "-" or text is None and piped:
        name, data = "standard input", sys.stdin.buffer.read()
    elif text is None:
        return None
    else:       # the shell's bytes: a locale without UTF-8 has misread them
        data = os.fsencode(text)
    try:
        return read(data)
    except UnicodeDecodeError as error:       # its object has lost the BOM
        byte = len(data) - len(error.object) + error.start
        raise ValueError(f"{name} is not UTF-8 at byte {byte}; convert it"
                         " first.") from None


def given_options(**options) -> dict:
    """Those that were given on the command line."""
    return {name: value for name, value in options.items()
            if value is not None}


def own_model(instead: str = "--model") -> str:
    """Where the book's own model and tokenizer are; only a checkout has
    them. instead: what to give where they are not."""
    refuse(not NANO.is_dir(), instead, "the book's own model and tokenizer"
           " are part of a checkout, not of the installed package; name a"
           " directory, or gpt2.")
    return str(NANO)


def cores(workers: int) -> int:
    """So many processes, or for 0 one for each core."""
    return workers or os.cpu_count() or 1
