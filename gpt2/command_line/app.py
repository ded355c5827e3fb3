"""`python -m gpt2 --help`. Thin: it parses, calls, prints.

A command is a function that yields the text it prints. `main` writes that
text and turns an expected error into one line, so that no command has to.
"""
import os
import re
import sys
from importlib import metadata

import torch
import typer

from gpt2.command_line import evaluate, info, sample, tokenize, train
from gpt2.command_line.options import PROGRAM, examples, flag
from gpt2.command_line.reports import amount, write
from gpt2.command_line.runs import Interrupted
from gpt2.generation import NotFinite

REMEDIES = {"truncate=True": "--truncate", "do_sample=False": "--greedy",
            "dtype=torch.": "--dtype ", "Remove the directory and prepare"
            " the corpus again.": "Remove that folder; it is made again."
            }                                    # the package's, ours
# click's class; some releases of typer bring along a click of their own.
UsageError = typer.BadParameter.__base__

app = typer.Typer(add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False)


def show_version(wanted: bool) -> None:
    """Print the versions and end, if that is wanted."""
    if wanted:
        try:
            version = metadata.version("gpt2-book")
        except metadata.PackageNotFoundError:
            version = "(a checkout, not installed)"
        typer.echo(f"gpt2-book {version}, torch {torch.__version__}")
        raise typer.Exit()


Version = flag("Print the versions and exit.", "--version",
               callback=show_version, is_eager=True)


@app.callback(epilog=examples(
    'python -m gpt2 sample --prompt "def "',
    'python -m gpt2 sample --model gpt2 --prompt "The dog"',
    "python -m gpt2 info gpt2-xl",
    'python -m gpt2 tokenize "A robot must obey the orders given it"',
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 evaluate --model runs/small/model --data stdlib"))
def commands(version: Version = False) -> None:
    """Sample from a GPT-2, count its parts, tokenize a text, train, measure.

    A MODEL is a directory in Hugging Face's format, or a name on its hub:
    gpt2, gpt2-medium, gpt2-large, gpt2-xl, or any OWNER/NAME. Only a name on
    the hub needs the network, once. Without one it is the book's own small
    model, which writes Python and is part of a checkout.
    """


app.command(epilog=sample.EXAMPLES)(sample.sample)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=tokenize.EXAMPLES)(tokenize.tokenize)
app.command(epilog=train.EXAMPLES)(train.train)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)


def is_first() -> bool:
    """Does this process speak for all that torchrun has started?"""
    return os.environ.get("RANK", "0") == "0"


def failed(message: str, speaks: bool = True) -> int:
    """Say it on one line, in the words of the command line."""
    if not speaks:
        return 2
    for said, here in REMEDIES.items():
        message = message.replace(said, here)
    print("gpt2:", *message.split(), file=sys.stderr)
    return 2


def memory_error(error: Exception) -> str | None:
    """One line about memory that was not to be had; None: another error.

    PyTorch has a class for GPUs' memory; for the CPU's there are words.
    """
    asked = re.search(r"tried to allocate (\d+) bytes", str(error))
    if asked:
        what = f"{amount(int(asked[1]))} were asked for"
    elif isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
            "Storage size calculation overflowed" in str(error)):
        what = str(error) or "nothing is left"
    else:
        return None
    return f"not enough memory: {what}. Ask for less at once."


def exit_code(error: BaseException) -> int | None:
    """Of an expected error, said on one line; None: a fault."""
    match error:
        case UsageError():
            what = error.format_message().rstrip(".") + "."
            return failed(f"{what} See {error.ctx.command_path} --help."
                          if error.ctx else what, is_first())
        case Interrupted():      # as it is: it holds a command to copy
            if is_first():
                print("gpt2:", error, file=sys.stderr)
            return error.code
        case NotFinite() | FloatingPointError():
            failed(str(error), is_first())
            return 1
        case KeyboardInterrupt():
            return 130
        case BrokenPipeError():
            return 141
        case ValueError() | OSError():
            return failed(str(error))
        case RuntimeError() | MemoryError():
            said = memory_error(error)
            return failed(said) if said else None


def too_old() -> str | None:
    """What to do if this typer misreads options: whatever is asked, these
    print the versions."""
    release = tuple(map(int, re.findall(r"\d+", typer.__version__)[:2]))
    if release >= (0, 16):
        return None
    return (f"typer {typer.__version__} is too old: it misreads options. pip"
            " install 'typer>=0.16' brings another.")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 2 for bad arguments or files and for too little memory, 1 for a loss
    or a score that is no number, with one line on standard error; 130 after
    Ctrl-C and 143 after SIGTERM, where a training run is saved first; 141
    when a pipe's reader has left. Any other exception is a fault of this
    program and keeps its traceback.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # The hub's library logs each of its attempts; the last one is our line.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if why := too_old():
        return failed(why, is_first())
    try:
        return ended(sys.argv[1:] if arguments is None else arguments)
    except BaseException as error:
        code = exit_code(error)
        if code is None:
            raise
        return code


def ended(arguments: list[str]) -> int:
    """Run one command and write what it yields, to its end."""
    result = app(arguments, prog_name=PROGRAM, standalone_mode=False,
                 obj=arguments)
    if isinstance(result, int):        # --help and --version end with 0
        return result
    for text in result:
        write(text)
    return 0
