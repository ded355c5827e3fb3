"""The command line: `python -m gpt2 --help`. Thin: it parses, calls, prints.

A command is a function that yields the text it prints. `main` writes that
text and turns an expected error into one line, so that no command has to.
"""
import os
import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from importlib import metadata
from itertools import takewhile
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import torch
import typer
from safetensors import SafetensorError, safe_open

from gpt2.config import (PRESETS, GPT2Config, config_to_dict,
                         count_parameters, flops_per_token, memory_bytes)
from gpt2.generation import generate, stream_text
from gpt2.kv_cache import cache_shape
from gpt2.pretrained import (CheckpointError, find_directory, load_pretrained,
                             load_tokenizer, read_config)

PROGRAM = "python -m gpt2"
NANO = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"
MODEL = "A directory in Hugging Face's format, or a name on its hub."
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16",
          "F64": "float64"}                      # safetensors' names, torch's
Dtype = Enum("Dtype", {name: name for name in DTYPES.values()}, type=str)
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
REMEDIES = {"truncate=True": "--truncate", "do_sample=False": "--greedy",
            "dtype=torch.": "--dtype "}          # the package's, ours
# click's class; some releases of typer bring along a click of their own.
UsageError = typer.BadParameter.__base__

app = typer.Typer(add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False)


def option(help: str, *names: str, **settings):
    return typer.Option(*names, help=help, **settings)


def examples(*lines: str) -> str:
    """The end of a help text; \\b keeps its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("gpt2-book")
        except metadata.PackageNotFoundError:
            version = "(a checkout, not installed)"
        typer.echo(f"gpt2-book {version}, torch {torch.__version__}")
        raise typer.Exit()


@app.callback(epilog=examples(
    'python -m gpt2 sample --model gpt2 --prompt "The dog"',
    "python -m gpt2 info gpt2-xl",
    'python -m gpt2 tokenize "A robot must obey the orders given it"'))
def commands(version: Annotated[bool, option(
        "Print the versions and exit.", "--version", callback=show_version,
        is_eager=True)] = False) -> None:
    """Sample from a GPT-2, count its parts, tokenize a text.

    A MODEL is a directory in Hugging Face's format, or a name on its hub:
    gpt2, gpt2-medium, gpt2-large, gpt2-xl, or any OWNER/NAME. Only a name on
    the hub needs the network, once.
    """


def given(text: str | None) -> str | None:
    """A text, or standard input for `-`, or for None if that is piped."""
    name, piped = "the text", sys.stdin and not sys.stdin.isatty()
    if text == "-" or text is None and piped:
        name, data = "standard input", sys.stdin.buffer.read()
    elif text is None:
        return None
    else:       # the shell's bytes: a locale without UTF-8 has misread them
        data = os.fsencode(text)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 at byte {error.start}; convert"
                         " it first.") from None


def usable(device: str | None) -> torch.device:
    """The device of this name, tried out; without one CUDA, else the CPU."""
    here = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["cpu"]
    device = here[0] if device is None else device
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:    # the latter: no CUDA
        reason = shorten(str(error).partition("\n")[0], 60, placeholder="...")
        raise typer.BadParameter(
            f"{device!r} cannot be used ({reason}); this machine has"
            f" {', '.join(here)}.", param_hint="--device") from None
    return torch.device(device)


def continuations(model, tokenizer, text: str, max_new_tokens: int,
                  count: int, stream: bool, **options):
    """For each sample an iterator over the pieces of its text."""
    if stream:
        for _ in range(count):
            yield stream_text(model, tokenizer, text, max_new_tokens,
                              **options)
        return
    ids = torch.tensor([tokenizer.encode(text)], dtype=torch.long,
                       device=model.head_weight.device)
    rows = generate(model, ids, max_new_tokens, num_return_sequences=count,
                    **options)
    end = model.config.eos_token_id
    ends = end if isinstance(end, list) else [end]
    for row in rows[:, ids.shape[1]:].tolist():
        yield iter([tokenizer.decode(takewhile(
            lambda id: id not in ends, row))])


@app.command(epilog=examples(
    'python -m gpt2 sample --model gpt2 --prompt "The dog" --seed 1',
    'python -m gpt2 sample --model gpt2 --prompt "The dog" --greedy --stream',
    'echo "The dog" | python -m gpt2 sample --model gpt2 --num-samples 3',
    "python -m gpt2 sample --model gpt2 --top-k 0 --top-p 0.9 < /dev/null"))
def sample(
        model: Annotated[str, option(MODEL, metavar="MODEL")],
        prompt: Annotated[str | None, option(
            "What to continue. With -, or in a pipe without --prompt:"
            " standard input, less the newline at its end. If it is empty,"
            " the model starts from nothing.", metavar="TEXT|-")] = None,
        max_new_tokens: Annotated[int, option(
            "Tokens to add at most.", metavar="N", min=1)] = 100,
        temperature: Annotated[float, option(
            "Above 0; the lower, the likelier the tokens.",
            metavar="X")] = 0.8,
        top_k: Annotated[int, option(
            "Draw from the N likeliest tokens; 0: from all.", metavar="N",
            min=0)] = 40,
        top_p: Annotated[float, option(
            "Draw from the likeliest tokens that together reach this"
            " probability.", metavar="X")] = 1.0,
        repetition_penalty: Annotated[float, option(
            "Above 1: fewer of the tokens that were there.",
            metavar="X")] = 1.0,
        greedy: Annotated[bool, option(
            "Take the likeliest token, draw nothing.", "--greedy")] = False,
        num_samples: Annotated[int, option(
            "How many texts, drawn as one batch.", metavar="N", min=1)] = 1,
        seed: Annotated[int | None, option(
            "The same seed gives the same text.", metavar="N", min=0,
            max=2**32 - 1)] = None,
        stream: Annotated[bool, option(
            "Print the text as it comes, one sample after the other.",
            "--stream")] = False,
        truncate: Annotated[bool, option(
            "If the prompt is too long, forget its beginning.",
            "--truncate")] = False,
        device: Annotated[str | None, option(
            "cpu, cuda, cuda:1, mps ... By default CUDA, if there is one.",
            metavar="NAME")] = None,
        dtype: Annotated[Dtype | None, option(
            "By default that of the file.")] = None) -> Iterator[str]:
    """Continue a prompt. Prints the prompt and what follows it."""
    if greedy and num_samples > 1:
        raise typer.BadParameter("with --greedy all are the same; drop one"
                                 " of the two.", param_hint="--num-samples")
    device = usable(device)
    tokenizer = load_tokenizer(model)
    network = load_pretrained(model, device=device, dtype=dtype and getattr(
        torch, dtype.value))
    if len(tokenizer) > network.config.vocab_size:
        raise CheckpointError(
            f"{model}: the tokenizer has {len(tokenizer):,} entries, the"
            f" model {network.config.vocab_size:,}; they are not a pair.")
    text = given(prompt) or ""
    if prompt in (None, "-"):
        text = re.sub(r"\r?\n\Z", "", text)
    chosen = secrets.randbelow(2**32) if seed is None else seed
    texts = continuations(
        network, tokenizer, text, max_new_tokens, num_samples, stream,
        do_sample=not greedy, temperature=temperature, top_k=top_k,
        top_p=top_p, repetition_penalty=repetition_penalty, truncate=truncate,
        generator=torch.Generator(device).manual_seed(chosen))
    for number, pieces in enumerate(texts, 1):
        first = next(pieces, "")       # what is wrong is said before any text
        if num_samples > 1:
            yield f"===== {number} of {num_samples} =====\n"
        yield text + first
        yield from pieces
        yield "\n"
    if seed is None and not greedy:
        print(f"--seed {chosen} writes this again", file=sys.stderr)


def configured(name: str) -> tuple[GPT2Config, str, str]:
    """The configuration, where it is from, and the dtype of the weights."""
    if name in PRESETS and not Path(name, "config.json").is_file():
        config = GPT2Config.from_preset(name)
        return config, "built in, no file read", "float32"
    folder = find_directory(name, ["config.json"])
    config = read_config(folder)
    dtype = config.extra.get("dtype", config.extra.get("torch_dtype"))
    for path in sorted(folder.glob("*.safetensors"))[:1]:
        try:
            with safe_open(path, "pt") as file:      # its header, not more
                kinds = Counter(file.get_slice(tensor).get_dtype()
                                for tensor in file.keys())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        dtype = DTYPES.get(max(kinds, key=kinds.get, default=None))
    known = dtype in DTYPES.values()
    return config, str(folder), dtype if known else "float32"


def amount(number: float, unit: str = "B") -> str:
    for prefix, size in ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3):
        if number >= size:
            return f"{number / size:.1f} {prefix}{unit}"
    return f"{number} {unit}"


@app.command(epilog=examples("python -m gpt2 info nano",
                             "python -m gpt2 info gpt2-xl"))
def info(model: Annotated[str, typer.Argument(metavar="MODEL", help=(
        f"{MODEL} {', '.join(PRESETS)} are built in and need no file."))]
        ) -> Iterator[str]:
    """Count a model: parameters by part, memory, FLOPs.

    Reads config.json and at most the header of the weights. Units are
    decimal: 1 MB is 1,000,000 bytes.
    """
    config, where, dtype = configured(model)
    usual, ours = config_to_dict(GPT2Config()), config_to_dict(config)
    fields = {name: ours[name] for name in usual
              if name in SIZES or ours[name] != usual[name]}
    parts, T = count_parameters(config), config.n_positions
    total, training = sum(parts.values()), memory_bytes(config)
    width, flops = getattr(torch, dtype).itemsize, flops_per_token(config)
    token = 2 * prod(cache_shape(config, 1, 1)) * width      # keys, values
    for title, value, rows in [
        (f"{model} ({where})", "", fields),
        ("parameters", f"{total:,}", {
            part: f"{n:,} {n / total:7.1%}"
            for part, n in parts.items() if n}),
        (f"memory to sample, {dtype}", "", {
            "weights": amount(total * width),
            "keys and values of one token": amount(token),
            f"keys and values of {T:,} tokens": amount(T * token)}),
        (f"memory to train on {T:,} tokens, float32",
         amount(sum(training.values())),
         {part: amount(n) for part, n in training.items()}),
        (f"compute per token, of {T:,}", "", {
            "forward pass": amount(flops, "FLOP"),
            "training: forward and backward": amount(3 * flops, "FLOP")})]:
        yield f"{title:41} {value:>16}".rstrip() + "\n"
        for name, value in rows.items():
            yield f"  {name:34} {value!s:>21}\n"


def readable(token: bytes) -> str:
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)


@app.command(epilog=examples(
    'python -m gpt2 tokenize "A robot must obey the orders given it"',
    'python -m gpt2 tokenize --ids - < README.md',
    'python -m gpt2 tokenize --decode "32 3295 65 337"',
    'python -m gpt2 tokenize --model gpt2 "The dog"'))
def tokenize(
        text: Annotated[str | None, typer.Argument(metavar="TEXT|-", help=(
            "The text; after -- it may begin with a dash. With -, or in a"
            " pipe without TEXT: standard input, all of it."))] = None,
        model: Annotated[str | None, option(
            f"{MODEL} By default the book's own tokenizer.",
            metavar="MODEL")] = None,
        ids: Annotated[bool, option(
            "Print the ids alone, on one line.", "--ids")] = False,
        decode: Annotated[bool, option(
            "The other way round: from ids to the text.",
            "--decode")] = False) -> Iterator[str]:
    """Cut a text into tokens: one a line, its id and its text.

    A token that is no whole character is shown as bytes, b'...'.
    """
    if ids and decode:
        raise typer.BadParameter("--decode prints a text, no ids; drop one of"
                                 " the two.", param_hint="--ids")
    if model is None and not NANO.is_dir():
        raise typer.BadParameter(
            "the book's own tokenizer is part of a checkout, not of the"
            " installed package; name a directory, or gpt2.",
            param_hint="--model")
    tokenizer, text = load_tokenizer(model or NANO), given(text)
    if text is None:
        raise typer.BadParameter("nothing to read; give a text, or - for"
                                 " standard input.", param_hint="TEXT|-")
    if decode:
        words = text.replace(",", " ").split()
        for word in words:
            if not re.fullmatch("[0-9]{1,18}", word):
                raise typer.BadParameter(
                    f"{word!r:.40} is no id; expected whole numbers, with"
                    " spaces or commas between them.", param_hint="TEXT|-")
        yield tokenizer.decode(map(int, words)) + "\n" * sys.stdout.isatty()
    elif ids:
        yield " ".join(map(str, tokenizer.encode(text))) + "\n"
    else:
        yield "".join(f"{id:6}  {readable(tokenizer.token_bytes(id))}\n"
                      for id in tokenizer.encode(text))


def write(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError:     # the interpreter's last flush must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def failed(message: str) -> int:
    """Say it on one line, in the words of the command line."""
    for said, here in REMEDIES.items():
        message = message.replace(said, here)
    print("gpt2:", *message.split(), file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 2 for bad arguments or files, with one line on standard error; 130
    after Ctrl-C and 141 when a pipe's reader has left, both silently. Any
    other exception is a fault of this program and keeps its traceback.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # The hub's library logs each of its attempts; the last one is our line.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    try:
        result = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        if isinstance(result, int):        # --help and --version end with 0
            return result
        for text in result:
            write(text)
    except UsageError as error:
        what = error.format_message().rstrip(".") + "."
        return failed(f"{what} See {error.ctx.command_path} --help."
                      if error.ctx else what)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        return failed(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
