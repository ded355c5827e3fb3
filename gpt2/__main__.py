"""The command line: `python -m gpt2 --help`. Thin: it parses, calls, prints.

A command is a function that yields the text it prints. `main` writes that
text and turns an expected error into one line, so that no command has to.
"""
import copy
import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from functools import partial
from importlib import metadata
from math import inf, isfinite, prod
from pathlib import Path
from typing import Annotated

import torch
import typer

from gpt2.config import PRESETS, GPT2Config, config_to_dict
from gpt2.counting import count_parameters, flops_per_token, memory_bytes
from gpt2.data import (CORPORA, Tokens, as_text, learn_tokenizer,
                       open_splits)
from gpt2.generation import NotFinite, generate_texts, stream_text
from gpt2.kv_cache import cache_shape
from gpt2.pretrained import (FLOATS, find_directory, load_pair,
                             load_tokenizer, read_config, stored_dtype)
from gpt2.scaling import (ENGINES, FastEngine, Speed, choose_engine,
                          find_micro_batch, joined, on_first)
from gpt2.tokenizer import written_whole
from gpt2.training import (PRECISIONS, Interrupted, Plan, TrainingConfig,
                           alone, compare, find_device, is_finished,
                           last_evaluation, new_plan, open_run, require_new,
                           save_model, saved_plan, set_up,
                           train as train_model)
from gpt2.zero_shot import TASKS, WINDOWED, evaluate_task, report

PROGRAM = "python -m gpt2"
NANO = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"
MODEL = "A directory in Hugging Face's format, or a name on its hub."
OWN_NAME = "the book's own small model"
OWN = f"{MODEL} By default {OWN_NAME}."
Dtype = Enum("Dtype", {name: name for name in (
    str(dtype).removeprefix("torch.") for dtype in FLOATS)}, type=str)
Parallel = Enum("Parallel", {name: name for name in ("auto", *ENGINES)},
                type=str)
Precision = Enum("Precision", {name: name for name in PRECISIONS}, type=str)
DATA = (f"{', '.join(CORPORA)}; or a file, a folder, a glob of text or"
        " .jsonl.")
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
REMEDIES = {"truncate=True": "--truncate", "do_sample=False": "--greedy",
            "dtype=torch.": "--dtype ", "Remove the directory and prepare"
            " the corpus again.": "Remove that folder; it is made again."
            }                                    # the package's, ours
# click's class; some releases of typer bring along a click of their own.
UsageError = typer.BadParameter.__base__

app = typer.Typer(add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False)


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


def show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("gpt2-book")
        except metadata.PackageNotFoundError:
            version = "(a checkout, not installed)"
        typer.echo(f"gpt2-book {version}, torch {torch.__version__}")
        raise typer.Exit()


@app.callback(epilog=examples(
    'python -m gpt2 sample --prompt "def "',
    'python -m gpt2 sample --model gpt2 --prompt "The dog"',
    "python -m gpt2 info gpt2-xl",
    'python -m gpt2 tokenize "A robot must obey the orders given it"',
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 evaluate --model runs/small/model --data stdlib"))
def commands(version: flag(
        "Print the versions and exit.", "--version", callback=show_version,
        is_eager=True) = False) -> None:
    """Sample from a GPT-2, count its parts, tokenize a text, train, measure.

    A MODEL is a directory in Hugging Face's format, or a name on its hub:
    gpt2, gpt2-medium, gpt2-large, gpt2-xl, or any OWNER/NAME. Only a name on
    the hub needs the network, once. Without one it is the book's own small
    model, which writes Python and is part of a checkout.
    """


def given(text: str | None, read=as_text) -> str | None:
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


def refuse(wrong, what: str, why: str) -> None:
    """An error of this option or argument, if something is wrong."""
    if wrong:
        raise typer.BadParameter(why, param_hint=what)


def own_model(instead: str = "--model") -> str:
    """Where the book's own model and tokenizer are; only a checkout has
    them. instead: what to give where they are not."""
    refuse(not NANO.is_dir(), instead, "the book's own model and tokenizer"
           " are part of a checkout, not of the installed package; name a"
           " directory, or gpt2.")
    return str(NANO)


@app.command(epilog=examples(
    'python -m gpt2 sample --prompt "def " --seed 1',
    'python -m gpt2 sample --model gpt2 --prompt "The dog" --greedy --stream',
    'echo "The dog" | python -m gpt2 sample --model gpt2 --num-samples 3',
    "python -m gpt2 sample --top-k 0 --top-p 0.9 < /dev/null"))
def sample(
        model: Model = None,
        prompt: option(
            str | None, "What to continue. With -, or in a pipe without"
            " --prompt: standard input, less the newline at its end. If it"
            " is empty, the model starts from nothing. Line ends become"
            " those of the training text.", metavar="TEXT|-") = None,
        max_new_tokens: whole(
            "Tokens to add at most. With the prompt no more than the model"
            " has positions: it learned a vector for each of them, and none"
            " for those beyond.", min=1) = 100,
        temperature: real("Above 0; lower: likelier tokens.") = 0.8,
        top_k: whole("Draw from the N likeliest tokens; 0: from all.",
                     min=0) = 40,
        top_p: real("Draw from the likeliest tokens that together reach this"
                    " probability.") = 1.0,
        repetition_penalty: real(
            "Above 1: fewer of the tokens that were there.") = 1.0,
        greedy: flag("Take the likeliest token, draw nothing.",
                     "--greedy") = False,
        num_samples: whole("How many texts, drawn as one batch.", min=1,
                           max=2 ** 31 - 1) = 1,
        seed: seeded("The same one gives the same text.") = None,
        stream: flag("Print the text as it comes, one sample after the"
                     " other.", "--stream") = False,
        truncate: flag("If the prompt leaves too few positions, forget its"
                       " beginning.", "--truncate") = False,
        device: Device = None,
        dtype: option(Dtype | None, "By default that of the file.") = None
        ) -> Iterator[str]:
    """Continue a prompt. Prints the prompt and what follows it."""
    refuse(greedy and num_samples > 1, "--num-samples",
           "with --greedy all are the same; drop one of the two.")
    network, tokenizer = load_pair(
        own_model() if model is None else model, device=find_device(device),
        dtype=dtype and getattr(torch, dtype.value))
    text = given(prompt) or ""
    if prompt in (None, "-"):
        text = text.removesuffix("\n")
    chosen = secrets.randbelow(2**32) if seed is None else seed
    what = network, tokenizer, text, max_new_tokens
    how = dict(do_sample=not greedy, temperature=temperature, top_k=top_k,
               top_p=top_p, repetition_penalty=repetition_penalty,
               truncate=truncate, generator=torch.Generator(
                   network.wte.weight.device).manual_seed(chosen))
    drawn = (stream_text(*what, **how) for _ in range(num_samples)) \
        if stream else zip(generate_texts(*what, num_samples, **how))
    for number, pieces in enumerate(map(iter, drawn), 1):
        first = next(pieces, "")       # what is wrong is said before any text
        if num_samples > 1:
            yield f"===== {number} of {num_samples} =====\n"
        yield text + first
        yield from pieces
        yield "\n"
    if seed is None and not greedy:
        print(f"--seed {chosen} writes this again", file=sys.stderr)


def configured(name: str) -> tuple[GPT2Config, str, torch.dtype]:
    """The configuration, where it is from, and the dtype of the weights."""
    if name in PRESETS and not Path(name, "config.json").is_file():
        config = GPT2Config.from_preset(name)
        return config, "built in, no file read", torch.float32
    folder = find_directory(name, ["config.json"])
    config = read_config(folder)
    return config, str(folder), stored_dtype(folder, config)


def amount(number: float, unit: str = "B") -> str:
    for prefix, size in ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3):
        if number >= size:
            return f"{number / size:.1f} {prefix}{unit}"
    return f"{number} {unit}"


@app.command(epilog=examples("python -m gpt2 info",
                             "python -m gpt2 info gpt2-xl"))
def info(model: Annotated[str | None, typer.Argument(
        metavar="MODEL", callback=filled,
        help=(f"{OWN} {', '.join(PRESETS)} are built in and"
                               " need no file."))] = None) -> Iterator[str]:
    """Count a model: parameters by part, memory, FLOPs.

    Reads config.json and at most the header of the weights. Units are
    decimal: 1 MB is 1,000,000 bytes.
    """
    config, where, dtype = configured(
        own_model("MODEL") if model is None else model)
    usual, ours = config_to_dict(GPT2Config()), config_to_dict(config)
    fields = {name: ours[name] for name in usual
              if name in SIZES or ours[name] != usual[name]}
    parts, T = count_parameters(config), config.n_positions
    total, training = sum(parts.values()), memory_bytes(config)
    width, flops = dtype.itemsize, flops_per_token(config)
    token = 2 * prod(cache_shape(config, 1, 1)) * width      # keys, values
    for title, value, rows in [
        (f"{model or OWN_NAME} ({where})", "", fields),
        ("parameters", f"{total:,}", {
            part: f"{n:,} {n / total:7.1%}"
            for part, n in parts.items() if n}),
        (f"memory to sample, {str(dtype).removeprefix('torch.')}", "", {
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
            " pipe without TEXT: standard input, all of it, byte for byte:"
            " carriage returns and a byte order mark are shown, too."
            ))] = None,
        model: Model = None,
        ids: flag("Print the ids alone, on one line.", "--ids") = False,
        decode: flag("The other way round: from ids to the text.",
                     "--decode") = False) -> Iterator[str]:
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


def given_options(**options) -> dict:
    """Those that were given on the command line."""
    return {name: value for name, value in options.items()
            if value is not None}


def cores(workers: int) -> int:
    return workers or os.cpu_count() or 1


def copied(tokens: Tokens) -> str:
    """What of the held-out text was left out, for training has it too."""
    number = tokens.left_out.get("copied")
    return f" ({number} copied documents left out)" if number else ""


def ending(out: Path) -> str:
    """What a finished run has reached."""
    text, found = f"the model is in {out / 'model'}\n", last_evaluation(out)
    return text if not found else (
        f"held-out text: {found['validation_loss']:.3f} nats per token,"
        f" {found['validation_bits_per_byte']:.3f} bits per byte; {text}")


def checked_size(preset: str, changes: dict) -> int:
    """Entries of a preset's vocabulary, if a plan with these changes of its
    numbers will do: asked before minutes of learning."""
    config, length = GPT2Config.from_preset(preset), changes.get("length", 0)
    TrainingConfig.from_preset(preset, **changes)
    refuse(length > config.n_positions, "--length", f"{length} is more than"
           f" the {config.n_positions:,} tokens that {preset} reads.")
    return config.vocab_size


def trained(out: Path, plan: Plan, engine: FastEngine, workers: int,
            again: str, find: bool = False, **options) -> Iterator[str]:
    """Train in this folder. again: the command that resumes; find: the
    largest micro-batch that fits; options: those of set_up."""
    if find:
        plan = plan._replace(config=replace(
            plan.config, micro_batch=find_micro_batch(
                engine, copy.deepcopy(plan.model), plan.config)))
        yield f"micro-batches of {plan.config.micro_batch}\n"
    bar = sys.stderr is not None and sys.stderr.isatty()
    batches, run = open_run(
        out, plan, engine, workers=cores(workers), again=again,
        report=None if bar else lambda line: write(line + "\n"))
    plan, different = set_up(plan, engine, batches, run, **options)
    for line in different:
        yield f"differs from the session before: {line}\n"
    yield (f"{plan.source}: {len(batches.tokens):,} tokens to train on,"
           f" {len(run.validation):,} held out{copied(run.validation)};"
           f" {plan.config.steps:,} updates"
           f" of {plan.config.batch_size} x {plan.config.length} tokens\n")
    train_model(plan.model, batches, plan.config, engine, run)
    model = engine.whole_model()
    if engine.rank == 0:
        save_model(out, model, plan.tokenizer)
        yield ending(out)


@app.command(epilog=examples(
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 train --out runs/small --resume",
    "python -m gpt2 train --init-from gpt2 --data shakespeare --out runs/tuned"
    ))
def train(
        context: typer.Context,
        out: located(
            Path, "The run's folder: tokens, metrics.jsonl, checkpoints/, and"
            " at the end model/ and loss.png.", metavar="DIR"),
        preset: named(
            f"{', '.join(PRESETS)}: the model's size and the numbers of the"
            " training. By default nano.", metavar="NAME") = None,
        data: named(f"{DATA} By default stdlib.", metavar="DATA") = None,
        init_from: named(
            "Fine-tune this model, with its own tokenizer, instead of"
            " starting from random weights.", metavar="MODEL") = None,
        tokenizer: named(
            "Its directory, or a name on the hub. By default the book's"
            " own, with 4,096 entries; for a published size one of 50,257"
            " is learned from DATA first.", metavar="MODEL") = None,
        resume: flag("Go on with the run in --out, with its own numbers;"
                     " --max-steps and --decay may be others while its rate"
                     " is still at the top. A finished one is not"
                     " lengthened: see --init-from.",
                     "--resume") = False,
        max_steps: whole("Updates in the whole schedule.", min=1) = None,
        minutes: real("Fit the schedule to this time, at the speed measured"
                      " first.") = None,
        batch_size: whole("Sequences per update.", min=1) = None,
        micro_batch: named("Sequences at once, per process; changes memory"
                           " and speed alone. auto: as many as fit.",
                           metavar="N|auto") = None,
        length: whole("Tokens per sequence.", min=2) = None,
        learning_rate: real("At the top of the schedule.") = None,
        warmup: whole("Updates until the top. By default at most a tenth of"
                      " all.", min=0) = None,
        decay: whole("Let the rate fall in so many updates at the end, and"
                     " stay at its top before; 0: fall from the warm-up"
                     " on.", min=0) = None,
        dropout: real("The rate of all three places.") = None,
        precision: option(Precision | None,
                          "What the forward pass computes in.") = None,
        deterministic: option(
            bool | None, "The same bits again on a GPU, slower.",
            "--deterministic") = None,
        seed: seeded("Of weights, batches and dropout.") = None,
        eval_every: whole("Updates between evaluations.", min=1) = None,
        sample_every: whole("Updates between samples; 0: none.",
                            min=0) = None,
        save_every: whole("Updates between checkpoints.", min=1) = None,
        keep: whole("Checkpoints to keep.", min=1) = None,
        parallel: option(
            Parallel, "How processes that torchrun has started share the"
            " work: ddp, whole models; fsdp, in pieces; auto is ddp"
            " there.") = "auto",
        compiled: flag("Let torch.compile build the blocks and the loss.",
                       "--compile") = False,
        checkpoint_activations: flag("Less memory, a third more to compute.",
                                     "--checkpoint-activations") = False,
        tf32: flag("float32 products on a GPU with 10 bits of fraction.",
                   "--tf32") = False,
        device: Device = None, workers: Workers = 0) -> Iterator[str]:
    """Train a model, or go on training it.

    Ctrl-C saves the run and ends with code 130; --resume goes on, bit for
    bit as if nothing had happened. Where standard error is no terminal, each
    evaluation prints a line instead of the progress bar.
    """
    words = given_options(preset=preset, data=data, init_from=init_from,
                          tokenizer=tokenizer, minutes=minutes)
    refuse(resume and words, "--resume", "the run in --out knows its own"
           " model, data and schedule; drop " + ", ".join(
               "--" + name.replace("_", "-") for name in words) + ".")
    refuse(minutes is not None and max_steps is not None, "--minutes",
           "--max-steps says the same; drop one of the two.")
    refuse(minutes is not None and not 0 < minutes < inf, "--minutes",
           f"{minutes} is no time to train in.")
    refuse(init_from is not None and (preset or tokenizer), "--init-from",
           "this model has its own size and tokenizer; drop --preset and"
           " --tokenizer.")
    preset, data = preset or "nano", data or "stdlib"
    find = micro_batch == "auto"
    refuse(micro_batch and not find
           and not re.fullmatch("[1-9][0-9]{0,8}", micro_batch),
           "--micro-batch", f"{micro_batch!r} is neither a number of at"
           " least 1 nor auto.")
    changes = given_options(
        steps=max_steps, batch_size=batch_size,
        micro_batch=int(micro_batch) if micro_batch and not find else None,
        length=length, learning_rate=learning_rate, warmup=warmup,
        decay=decay, dropout=dropout, precision=precision and precision.value,
        deterministic=deterministic, seed=seed, eval_every=eval_every,
        sample_every=sample_every, save_every=save_every, keep=keep)
    speed = Speed(compile="inductor" if compiled else "", tf32=tf32,
                  checkpoint=checkpoint_activations)
    again = [*PROGRAM.split(), "train", "--resume", "--out", str(out),
             *(["--device", device] if device else [])]
    with joined(find_device(device)) as place, ExitStack() as held:
        engine = choose_engine(place, Parallel(parallel).value, speed)
        if resume:
            plan = saved_plan(out, changes)
            if is_finished(out):
                yield (f"{out} is finished: all {plan.config.steps:,} updates"
                       f" done; {ending(out)}To train it further, begin a run"
                       f" with --init-from {shlex.quote(str(out / 'model'))}:"
                       " its optimizer and schedule begin anew.\n")
                return
        on_first(lambda: held.enter_context(alone(out)))
        if not resume:
            on_first(lambda: require_new(out))
            words = init_from or tokenizer
            if not words and preset != "nano":
                size = checked_size(preset, changes)
                if engine.rank == 0:
                    yield f"learning {size:,} tokens from {data}\n"
                words = on_first(lambda: learn_tokenizer(data, size))
            plan = new_plan(data, changes, preset=preset, init_from=init_from,
                            tokenizer=words or own_model("--tokenizer"))
        for text in trained(
                out, plan, engine, workers, shlex.join(again), find,
                minutes=minutes, resume=resume, command=shlex.join(
                    [*PROGRAM.split(), *context.find_root().obj])):
            if engine.rank == 0:         # of several processes one speaks
                yield text


def told(part: dict) -> Iterator[str]:
    """What `evaluate` prints of some of the numbers of `compare`."""
    if "loss" in part:
        yield (f"loss {part['loss']:.3f} nats per token, perplexity"
               f" {part['perplexity']:.1f}, of {part['tokens']:,} tokens\n")
    if "of_xz" in part:
        yield "bits per byte            of xz's\n"
        for name, bits in part["bits_per_byte"].items():
            yield f"  {name:12} {bits:6.3f} {part['of_xz'][name]:10.2f}\n"
    if "headers" in part:
        yield (f"bodies for {part['headers']} held-out function headers,"
               f" {part['new_tokens']} tokens each, cut at the dedent\n"
               if part["headers"] else
               "no Python functions are held out: no bodies to write\n")
    for who, rate in part.get("bodies", {}).items():
        yield (f"  {who:12} {rate['parse']} of the {rate['bodies']} with"
               " 20 tokens or more parse" + (
                   f": {rate['rate']:.1%}\n" if rate["bodies"] else "\n"))


@app.command(epilog=examples(
    "python -m gpt2 evaluate --data stdlib --windows 100 --headers 50",
    "python -m gpt2 evaluate --model runs/small/model --data runs/small/data",
    "python -m gpt2 evaluate --model runs/tuned/model --data shakespeare",
    "python -m gpt2 evaluate --model gpt2 --task lambada"))
def evaluate(
        context: typer.Context, model: Model = None,
        data: named(f"{DATA} Or the data/ of a run. By default stdlib; with"
                    " --task a file in its format, by default the published"
                    " one.", metavar="DATA") = None,
        task: named(f"{', '.join(TASKS)}: measure this instead, zero-shot."
                    " text is any file of yours; where no spaces stand"
                    " between words, perplexity per word says nothing: read"
                    " its bits per byte.", metavar="NAME") = None,
        limit: whole("Only so many documents of the task.", min=1) = None,
        stride: whole("Tokens from one window to the next, of the tasks"
                      f" {' and '.join(sorted(WINDOWED))}. By default half"
                      " of what the model reads.", min=1) = None,
        windows: whole("Let the model read so many windows of held-out text,"
                       " spread evenly; 0: all of it.", min=0) = 0,
        headers: whole("Of so many held-out Python functions let the model"
                       " write the body.", min=0) = 500,
        seed: seeded("Of what is written.") = 0,
        json_file: located(
            Path | None, "Write the numbers there as well; null stands for"
            " inf, which JSON does not know.", "--json",
            metavar="FILE") = None,
        device: Device = None, workers: Workers = 0) -> Iterator[str]:
    """Measure a model on held-out text, beside simpler rivals.

    Held out are the documents that training never reads: one in ten, by
    their hash, less those that training text holds as copies. gzip and xz, document by document, and a 3-gram model of the
    training text stand beside it; for Python, the share of written function
    bodies that parse. With --task: one of the GPT-2 paper's measurements,
    beside the paper's own numbers where the model is one of its four.
    """
    check_task(context, task)
    refuse(json_file and not json_file.resolve().parent.is_dir(), "--json",
           f"{json_file and json_file.parent} is no folder.")
    model = own_model() if model is None else model
    network, tokenizer = load_pair(model, device=find_device(device),
                                   dtype=torch.float32)
    if task is not None:
        options = {} if stride is None else {"stride": stride}
        numbers = {"model": model, **evaluate_task(
            task, network, tokenizer, data, limit=limit, progress=task,
            **options)}
        yield from (line + "\n" for line in report(numbers, model))
        write_numbers(json_file, numbers)
        return
    data = "stdlib" if data is None else data
    with open_splits(data, tokenizer, cores(workers)) as (training, unread):
        numbers = {"model": model, "data": data, "held_out": len(unread),
                   "left_out": unread.left_out}
        bodies = {}
        yield (f"{data}: {len(unread):,} tokens are held out"
               f"{copied(unread)}\n")
        for part in compare(network, tokenizer, training, unread,
                            windows=windows, headers=headers, seed=seed):
            yield from told(part)
            bodies |= part.get("bodies", {})
            numbers |= part
    write_numbers(json_file, numbers | {"bodies": bodies})


def check_task(context: typer.Context, task: str | None) -> None:
    """Refuse an unknown task, and options that have no use here."""
    refuse(task is not None and task not in TASKS, "--task",
           f"no task {task!r}; there are {', '.join(TASKS)}.")
    for name in (["limit", "stride"] if task is None else
                 ["windows", "headers", "seed", "workers"]):
        refuse(context.get_parameter_source(name).name == "COMMANDLINE",
               f"--{name}",
               f"it goes {'only' if task is None else 'not'} with --task.")


def finite(value):
    """JSON knows neither inf nor nan: null instead of them, at any depth."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write_numbers(path: Path | None, numbers: dict) -> None:
    """As JSON, if a path was given."""
    if path is not None:
        with written_whole(path) as beside:
            beside.write_text(json.dumps(finite(numbers), indent=2,
                                         allow_nan=False) + "\n", "utf-8")


def write(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError:     # the interpreter's last flush must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


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
    if arguments is None:
        arguments = sys.argv[1:]
    release = tuple(map(int, re.findall(r"\d+", typer.__version__)[:2]))
    if release < (0, 16):      # whatever is asked, these print the versions
        return failed(f"typer {typer.__version__} is too old: it misreads"
                      " options. pip install 'typer>=0.16' brings another.",
                      is_first())
    try:
        result = app(arguments, prog_name=PROGRAM, standalone_mode=False,
                     obj=arguments)
        if isinstance(result, int):        # --help and --version end with 0
            return result
        for text in result:
            write(text)
    except UsageError as error:
        what = error.format_message().rstrip(".") + "."
        return failed(f"{what} See {error.ctx.command_path} --help."
                      if error.ctx else what, is_first())
    except Interrupted as error:     # as it is: it holds a command to copy
        if is_first():
            print("gpt2:", error, file=sys.stderr)
        return error.code
    except (NotFinite, FloatingPointError) as error:
        failed(str(error), is_first())
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except (ValueError, OSError) as error:
        return failed(str(error))
    except (RuntimeError, MemoryError) as error:
        if said := memory_error(error):
            return failed(said)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
