"""`python -m gpt2 tokenize`: cut a text into tokens, or put it together."""
import re
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from gpt2.command_line.options import (Model, examples, flag, given,
                                       own_model, refuse)
from gpt2.pretrained import load_tokenizer

EXAMPLES = examples(
    'python -m gpt2 tokenize "A robot must obey the orders given it"',
    'python -m gpt2 tokenize --ids - < README.md',
    'python -m gpt2 tokenize --decode "32 3295 65 337"',
    'python -m gpt2 tokenize --model gpt2 "The dog"')

Text = Annotated[str | None, typer.Argument(metavar="TEXT|-", help=(
    "The text; after -- it may begin with a dash. With -, or in a pipe"
    " without TEXT: standard input, all of it, byte for byte: carriage"
    " returns and a byte order mark are shown, too."))]
Ids = flag("Print the ids alone, on one line.", "--ids")
Decode = flag("The other way round: from ids to the text.", "--decode")


def tokenize(text: Text = None, model: Model = None, ids: Ids = False,
             decode: Decode = False) -> Iterator[str]:
    """Cut a text into tokens: one a line, its id and its text.

    A token that is no whole character is shown as bytes, b'...'.
    """
    refuse(ids and decode, "--ids",
           "--decode prints a text, no ids; drop one of the two.")
    tokenizer = load_tokenizer(own_model() if model is None else model)
    text = given(text, bytes.decode)
    refuse(text is None, "TEXT|-",
           "nothing to read; give a text, or - for standard input.")
    if decode:
        words = text.replace(",", " ").split()
        for word in words:
            refuse(not re.fullmatch("[0-9]{1,18}", word), "TEXT|-",
                   f"{word!r:.40} is no id; expected whole numbers, with"
                   " spaces or commas between them.")
        yield tokenizer.decode(map(int, words)) + "\n" * sys.stdout.isatty()
    elif ids:
        yield " ".join(map(str, tokenizer.encode(text))) + "\n"
    else:
        yield "".join(f"{id:6}  {readable(tokenizer.token_bytes(id))}\n"
                      for id in tokenizer.encode(text))


def readable(token: bytes) -> str:
    """As characters, if they are whole ones, or as bytes."""
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)
