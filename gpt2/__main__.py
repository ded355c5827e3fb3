"""The command line: `python -m gpt2 --help`. Thin: it parses, calls, prints.

A command is a function that yields the text it prints. `main` writes that
text and turns an expected error into one line, so that no command has to.
"""
import json
import os
import re
import secrets
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from enum import Enum
from importlib import metadata
from itertools import takewhile
from math import inf, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Annotated, NamedTuple

import torch
import typer
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from gpt2.config import (PRESETS, GPT2Config, config_to_dict,
                         count_parameters, flops_per_token, memory_bytes)
from gpt2.data import (CORPORA, MANIFEST, SPLITS, Batches, DataError, Tokens,
                       Trigram, compressed_bits_per_byte, prepare,
                       read_manifest, texts, token_sizes,
                       tokenizer_fingerprint, written_directory)
from gpt2.generation import generate, stream_text
from gpt2.kv_cache import cache_shape
from gpt2.model import GPT2
from gpt2.pretrained import (CheckpointError, find_directory, load_pretrained,
                             load_tokenizer, read_config, save_pretrained,
                             save_tokenizer)
from gpt2.scaling import (ENGINES, FastEngine, Speed, choose_engine,
                          find_micro_batch, joined, on_first)
from gpt2.tokenizer import Tokenizer, written_whole
from gpt2.training import (PRECISIONS, RUN_FILE, Engine, Header, Interrupted,
                           NotFinite, Run, TrainingConfig, checkpoints,
                           function_headers, measured_peak, parse_rate,
                           read_rows, read_run, remove_directory,
                           require_same, save_checkpoint, start_run, steps_in,
                           summarize, write_with, write_with_trigram)
from gpt2.training import evaluate as evaluate_model
from gpt2.training import train as train_model

PROGRAM = "python -m gpt2"
NANO = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"
MODEL = "A directory in Hugging Face's format, or a name on its hub."
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16",
          "F64": "float64"}                      # safetensors' names, torch's
Dtype = Enum("Dtype", {name: name for name in DTYPES.values()}, type=str)
Precision = Enum("Precision", {name: name for name in PRECISIONS}, type=str)
Parallel = Enum("Parallel", {name: name for name in ("auto", *ENGINES)},
                type=str)
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
    'python -m gpt2 tokenize "A robot must obey the orders given it"',
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 evaluate --model runs/small/model --data stdlib"))
def commands(version: Annotated[bool, option(
        "Print the versions and exit.", "--version", callback=show_version,
        is_eager=True)] = False) -> None:
    """Sample from a GPT-2, count its parts, tokenize a text, train, measure.

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
    first = min(int(os.environ.get("LOCAL_RANK", 0)), len(here) - 1)
    device = here[first] if device is None else device
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:    # the latter: no CUDA
        reason = shorten(str(error).partition("\n")[0], 60, placeholder="...")
        raise typer.BadParameter(
            f"{device!r} cannot be used ({reason}); this machine has"
            f" {', '.join(here)}.", param_hint="--device") from None
    return torch.device(device)


def pair(name: str, **options) -> tuple[GPT2, Tokenizer]:
    """A model and its tokenizer. options: see load_pretrained."""
    tokenizer = load_tokenizer(name)
    network = load_pretrained(name, **options)
    if len(tokenizer) > network.config.vocab_size:
        raise CheckpointError(
            f"{name}: the tokenizer has {len(tokenizer):,} entries, the"
            f" model {network.config.vocab_size:,}; they are not a pair.")
    return network, tokenizer


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
    network, tokenizer = pair(model, device=device, dtype=dtype and getattr(
        torch, dtype.value))
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


def book_tokenizer(instead: str = "--model") -> Path:
    """Where the book's own tokenizer is; only a checkout has it."""
    if not NANO.is_dir():
        raise typer.BadParameter(
            "the book's own tokenizer is part of a checkout, not of the"
            " installed package; name a directory, or gpt2.",
            param_hint=instead)
    return NANO


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
    tokenizer, text = load_tokenizer(model or book_tokenizer()), given(text)
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


def given_options(**options) -> dict:
    """Those that were given on the command line."""
    return {name: value for name, value in options.items()
            if value is not None}


def cores(workers: int) -> int:
    return workers or os.cpu_count() or 1


# What differs from nano's numbers when a trained model goes on learning.
FINE_TUNING = dict(learning_rate=1e-4, warmup=50)


class Plan(NamedTuple):
    """What a run trains, on what, how."""
    config: TrainingConfig
    source: str
    model: GPT2
    tokenizer: Tokenizer


def new_plan(preset: str | None, init_from: str | None, named: str | None,
             source: str, changes: dict) -> Plan:
    """A run that begins. named: where the tokenizer is from."""
    if init_from is not None:
        changes = FINE_TUNING | changes
    config = TrainingConfig.from_preset(preset or "nano", **changes)
    if init_from is not None:
        model, tokenizer = pair(init_from, dtype=torch.float32)
    else:
        tokenizer = load_tokenizer(named or book_tokenizer("--tokenizer"))
        torch.manual_seed(config.seed)
        end = tokenizer.eos_token_id
        model = GPT2(GPT2Config.from_preset(
            preset or "nano", vocab_size=len(tokenizer), bos_token_id=end,
            eos_token_id=end))
    if tokenizer.eos_token_id is None:
        raise CheckpointError("this tokenizer has no special token to"
                              " separate documents with; use another.")
    most = model.config.n_positions
    if changes.get("length", 0) > most:
        raise typer.BadParameter(f"this model goes to {most} tokens.",
                                 param_hint="--length")
    return Plan(replace(config, length=min(config.length, most)), source,
                model, tokenizer)


def old_plan(out: Path, changes: dict) -> Plan:
    """The run in this folder, to go on with."""
    run = read_run(out)
    config = replace(run["training"], **changes)
    require_same(out / RUN_FILE, asdict(run["training"]), asdict(config))
    if not checkpoints(out) and not (out / "model").exists():
        raise DataError(f"{out} has no checkpoint left to go on from. Remove"
                        " it, and start again without --resume.")
    return Plan(config, run["source"], GPT2(run["model"]),
                load_tokenizer(out))


def require_new(out: Path) -> None:
    """Raise DataError if something was trained here. What a start that was
    killed has left, is removed."""
    steps = [int(path.name[5:]) for path in checkpoints(out)]
    if (out / RUN_FILE).exists() or (out / "model").exists() or any(steps):
        raise DataError(f"{out} holds a run already. Resume it (--resume), or"
                        " choose another folder.")
    for path in checkpoints(out):
        remove_directory(path)


@contextmanager
def alone(out: Path):
    """Let no other process train in this folder; make it if needed.

    If nothing came of it, nothing is left of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        with suppress(ImportError):              # Windows has no such locks
            import fcntl
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{out}: another process is training in this"
                                " folder now.") from None
            except OSError:                      # nor have some network disks
                pass
        try:
            yield
        finally:
            if {path.name for path in out.iterdir()} <= {".lock",
                                                         ".data.lock"}:
                with suppress(OSError):
                    (out / ".data.lock").unlink(missing_ok=True)
                    (out / ".lock").unlink()
                    out.rmdir()


def scheduled(config: TrainingConfig, steps: int, warmup: int | None):
    """With so many updates; unless given, a tenth of them for the warm-up
    at most."""
    if warmup is None:
        warmup = min(config.warmup, steps // 10)
    return replace(config, steps=steps, warmup=warmup)


class Reporter(Engine):
    """An engine that prints a line at each evaluation: for log files."""
    step = 0

    def load(self, path: Path) -> None:
        super().load(path)
        self.step = int(path.name[5:])           # step-00000250
        self.begin()

    def begin(self) -> None:
        self.losses, self.began = [], time.perf_counter()

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        loss = super().mean(x)
        self.losses.append(float(loss))
        return loss

    def update(self, rate: float) -> None:
        super().update(rate)
        self.step += 1

    def count_losses(self, tokens, windows, **options):
        seconds = time.perf_counter() - self.began
        sums = super().count_losses(tokens, windows, **options)
        if sums is not None and self.losses:
            self.report(summarize(sums), seconds / len(self.losses))
            self.begin()
        return sums

    def report(self, found: dict, seconds: float) -> None:
        """A line; seconds: of one update."""
        config = self.config
        speed = config.batch_size * config.length / seconds
        left = timedelta(seconds=round((config.steps - self.step) * seconds))
        write_once(
            f"update {self.step:,} of {config.steps:,}: loss"
            f" {sum(self.losses) / len(self.losses):.3f}, held out"
            f" {found['loss']:.3f}, {found['bits_per_byte']:.3f} bits per"
            f" byte; {speed:,.0f} tokens/s, {left} left\n")


def run_engine(device: torch.device, parallel: str,
               speed: Speed) -> FastEngine:
    """With a progress bar on a terminal, else with lines."""
    bar = sys.stderr is not None and sys.stderr.isatty()
    return choose_engine(device, parallel, speed, *[] if bar else [Reporter])


def ending(out: Path) -> str:
    """What a finished run has reached."""
    rows = [row for row in read_rows(out / "metrics.jsonl")
            if "validation_loss" in row]
    text = f"the model is in {out / 'model'}\n"
    return text if not rows else (
        f"held-out text: {rows[-1]['validation_loss']:.3f} nats per token,"
        f" {rows[-1]['validation_bits_per_byte']:.3f} bits per byte; {text}")


def save_model(model: GPT2, tokenizer: Tokenizer, path: Path) -> None:
    """A finished model with its tokenizer: all of it appears, or nothing."""
    with written_directory(path) as beside:
        save_pretrained(model, beside)
        save_tokenizer(tokenizer, beside,
                       model_max_length=model.config.n_positions)


def trained(out: Path, plan: Plan, engine: FastEngine, find: bool,
            minutes: float | None, warmup: int | None, workers: int,
            resume: bool, command: str, again: list[str]) -> Iterator[str]:
    """Prepare the data, train, save the model. again: words that resume;
    find: the largest micro-batch that fits."""
    config, source, model, tokenizer = plan
    counts = on_first(lambda: prepare(source, tokenizer, out / "data",
                                      workers=cores(workers))["tokens"])
    if find:
        config = replace(config, micro_batch=find_micro_batch(
            engine, model, config))
        yield f"micro-batches of {config.micro_batch}\n"
    training, held_out = (Tokens(out / "data", split, tokenizer)
                          for split in SPLITS)
    batches = Batches(training, config.batch_size, config.length,
                      seed=config.seed, rank=engine.rank, world=engine.world)
    if minutes is not None:
        config = scheduled(config, engine.least(steps_in(
            minutes, model, batches, config, engine)), warmup)
    if not resume:       # a run exists from its first checkpoint on
        on_first(lambda: save_tokenizer(tokenizer, out))
        engine.prepare(model, config)
        save_checkpoint(out, 0, engine, batches, tokenizer)
    for line in on_first(lambda: start_run(
            out, config, model.config, source, resume=resume,
            command=command)):
        yield f"differs from the session before: {line}\n"
    yield (f"{source}: {counts['train']:,} tokens to train on,"
           f" {counts['validation']:,} held out; {config.steps:,} updates of"
           f" {config.batch_size} x {config.length} tokens\n")
    try:
        train_model(model, batches, config, engine, Run(
            out, tokenizer, held_out,
            peak=measured_peak(engine.device, config.precision)))
    except Interrupted as error:         # with the words that this needs
        where = str(error).partition(":")[0]
        error.args = f"{where}: saved; go on with: {shlex.join(again)}",
        raise
    whole = engine.whole_model()
    on_first(lambda: save_model(whole, tokenizer, out / "model"))
    yield ending(out)


@app.command(epilog=examples(
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 train --out runs/small --resume",
    "python -m gpt2 train --init-from gpt2 --data shakespeare --out runs/tuned"
    ))
def train(
        context: typer.Context,
        out: Annotated[Path, option(
            "The run's folder: tokens, metrics.jsonl, checkpoints/, and at"
            " the end model/ and loss.png.", metavar="DIR")],
        preset: Annotated[str | None, option(
            f"{', '.join(PRESETS)}: the model's size and the numbers of the"
            " training. By default nano.", metavar="NAME")] = None,
        data: Annotated[str | None, option(
            f"{DATA} By default stdlib.", metavar="DATA")] = None,
        init_from: Annotated[str | None, option(
            "Fine-tune this model, with its own tokenizer, instead of"
            " starting from random weights.", metavar="MODEL")] = None,
        tokenizer: Annotated[str | None, option(
            "Its directory, or a name on the hub. By default the book's"
            " own, with 4,096 entries.", metavar="MODEL")] = None,
        resume: Annotated[bool, option(
            "Go on with the run in --out, with its own numbers.",
            "--resume")] = False,
        max_steps: Annotated[int | None, option(
            "Updates in the whole schedule.", metavar="N", min=1)] = None,
        minutes: Annotated[float | None, option(
            "Fit the schedule to this time, at the speed measured first.",
            metavar="X")] = None,
        batch_size: Annotated[int | None, option(
            "Sequences per update.", metavar="N", min=1)] = None,
        micro_batch: Annotated[str | None, option(
            "Sequences at once, per process; changes memory and speed"
            " alone. auto: as many as fit.", metavar="N|auto")] = None,
        length: Annotated[int | None, option(
            "Tokens per sequence.", metavar="N", min=2)] = None,
        learning_rate: Annotated[float | None, option(
            "At the top of the schedule.", metavar="X")] = None,
        warmup: Annotated[int | None, option(
            "Updates until the top. By default at most a tenth of all.",
            metavar="N", min=0)] = None,
        dropout: Annotated[float | None, option(
            "The rate of all three places.", metavar="X")] = None,
        precision: Annotated[Precision | None, option(
            "What the forward pass computes in.")] = None,
        deterministic: Annotated[bool | None, option(
            "The same bits again on a GPU, slower.",
            "--deterministic")] = None,
        seed: Annotated[int | None, option(
            "Of weights, batches and dropout.", metavar="N", min=0,
            max=2**32 - 1)] = None,
        eval_every: Annotated[int | None, option(
            "Updates between evaluations.", metavar="N", min=1)] = None,
        sample_every: Annotated[int | None, option(
            "Updates between samples; 0: none.", metavar="N", min=0)] = None,
        save_every: Annotated[int | None, option(
            "Updates between checkpoints.", metavar="N", min=1)] = None,
        keep: Annotated[int | None, option(
            "Checkpoints to keep.", metavar="N", min=1)] = None,
        device: Annotated[str | None, option(
            "By default CUDA, if there is one.", metavar="NAME")] = None,
        parallel: Annotated[Parallel, option(
            "How processes that torchrun has started share the work: ddp,"
            " whole models; fsdp, in pieces; auto is ddp there.")] = "auto",
        compiled: Annotated[bool, option(
            "Let torch.compile build the blocks and the loss.",
            "--compile")] = False,
        checkpoint_activations: Annotated[bool, option(
            "Less memory, a third more to compute.",
            "--checkpoint-activations")] = False,
        tf32: Annotated[bool, option(
            "float32 products on a GPU with 10 bits of fraction.",
            "--tf32")] = False,
        workers: Annotated[int, option(
            "Processes that tokenize; 0: one for each core.", metavar="N",
            min=0)] = 0) -> Iterator[str]:
    """Train a model, or go on training it.

    Ctrl-C saves the run and ends with code 130; --resume goes on, bit for
    bit as if nothing had happened. Where standard error is no terminal, each
    evaluation prints a line instead of the progress bar.
    """
    words = given_options(preset=preset, data=data, init_from=init_from,
                          tokenizer=tokenizer, minutes=minutes)
    if resume and words:
        named = ", ".join("--" + name.replace("_", "-") for name in words)
        raise typer.BadParameter(
            f"the run in --out knows its own model, data and schedule; drop"
            f" {named}.", param_hint="--resume")
    if minutes is not None and max_steps is not None:
        raise typer.BadParameter("--max-steps says the same; drop one of the"
                                 " two.", param_hint="--minutes")
    if minutes is not None and not 0 < minutes < inf:
        raise typer.BadParameter(f"{minutes} is no time to train in.",
                                 param_hint="--minutes")
    if init_from is not None and (preset or tokenizer):
        raise typer.BadParameter("this model has its own size and tokenizer;"
                                 " drop --preset and --tokenizer.",
                                 param_hint="--init-from")
    find = micro_batch == "auto"
    if micro_batch and not find and not re.fullmatch("[1-9][0-9]{0,8}",
                                                     micro_batch):
        raise typer.BadParameter(f"{micro_batch!r} is neither a number of at"
                                 " least 1 nor auto.",
                                 param_hint="--micro-batch")
    changes = given_options(
        steps=max_steps, batch_size=batch_size,
        micro_batch=int(micro_batch) if micro_batch and not find else None,
        length=length, learning_rate=learning_rate, warmup=warmup,
        dropout=dropout, precision=precision and precision.value,
        deterministic=deterministic, seed=seed, eval_every=eval_every,
        sample_every=sample_every, save_every=save_every, keep=keep)
    speed = Speed(compile="inductor" if compiled else "",
                  checkpoint=checkpoint_activations, tf32=tf32)
    again = [*PROGRAM.split(), "train", "--resume", "--out", str(out),
             *(["--device", device] if device else [])]
    command = shlex.join([*PROGRAM.split(), *context.find_root().obj])
    with joined(usable(device)) as place, ExitStack() as stack:
        engine = run_engine(place, Parallel(parallel).value, speed)
        if resume:
            plan = old_plan(out, changes)
            if (out / "model").exists():     # it appears last of all
                yield (f"{out} is finished: all {plan.config.steps:,} updates"
                       f" done; {ending(out)}")
                return
        else:
            plan = new_plan(preset, init_from, tokenizer, data or "stdlib",
                            changes)
            plan = plan._replace(config=scheduled(
                plan.config, plan.config.steps, warmup))
        on_first(lambda: stack.enter_context(alone(out)))
        if not resume:
            on_first(lambda: require_new(out))
        yield from trained(out, plan, engine, find, minutes, warmup, workers,
                           resume, command, again)


def spread(count: int, wanted: int) -> set[int]:
    """So many of 0 ... count - 1, evenly over all."""
    wanted = min(count, wanted)
    return {i * count // wanted for i in range(wanted)}


def some_headers(documents: list[str], wanted: int) -> list[Header]:
    """So many function headers, evenly over the documents."""
    if not wanted:
        return []
    count = sum(1 for _ in function_headers(documents))
    chosen = spread(count, wanted)
    return [header for i, header in enumerate(function_headers(documents))
            if i in chosen]


@contextmanager
def prepared(data: str, tokenizer: Tokenizer, workers: int):
    """The tokens of a corpus, (training, held out): of a run's data folder,
    else prepared in a temporary one."""
    if (Path(data) / MANIFEST).is_file():
        made_with = read_manifest(Path(data)).get("tokenizer")
        if made_with != tokenizer_fingerprint(tokenizer).hex():
            raise DataError(f"{data} was made with another tokenizer than"
                            " this model's. Name the corpus itself instead.")
        yield [Tokens(data, split, tokenizer) for split in SPLITS]
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        prepare(data, tokenizer, folder, workers=cores(workers))
        yield [Tokens(folder, split, tokenizer) for split in SPLITS]


TRIGRAM_TOKENS = 2 ** 26          # more would not fit into usual memory


def written_bodies(network: GPT2, trigram: Trigram, tokenizer: Tokenizer,
                   headers: list[Header], seed: int) -> Iterator[tuple]:
    """(who, parse_rate) of the model, then of the 3-gram model."""
    contexts = [header.context for header in headers]
    new = body_length(network)
    for who, write in ("model", write_with), ("3-gram", write_with_trigram):
        by = network if who == "model" else trigram
        bar = tqdm(write(by, tokenizer, contexts, new=new, seed=seed),
                   f"bodies by the {who}", len(contexts), disable=None)
        yield who, parse_rate(headers, bar, tokenizer)


def body_length(network: GPT2) -> int:
    """Tokens to write after a header: at least as many are context."""
    return min(160, network.config.n_positions // 2)


@app.command(epilog=examples(
    "python -m gpt2 evaluate --model runs/small/model --data stdlib",
    "python -m gpt2 evaluate --model runs/small/model --data runs/small/data",
    "python -m gpt2 evaluate --model runs/tuned/model --data shakespeare"))
def evaluate(
        model: Annotated[str, option(MODEL, metavar="MODEL")],
        data: Annotated[str, option(
            f"{DATA} Or the data/ of a run.", metavar="DATA")] = "stdlib",
        windows: Annotated[int, option(
            "Let the model read so many windows of held-out text, spread"
            " evenly; 0: all of it.", metavar="N", min=0)] = 0,
        headers: Annotated[int, option(
            "Of so many held-out Python functions let the model write the"
            " body.", metavar="N", min=0)] = 500,
        seed: Annotated[int, option("Of what is written.", metavar="N",
                                    min=0, max=2**32 - 1)] = 0,
        json_file: Annotated[Path | None, option(
            "Write the numbers there as well.", "--json",
            metavar="FILE")] = None,
        device: Annotated[str | None, option(
            "By default CUDA, if there is one.", metavar="NAME")] = None,
        workers: Annotated[int, option(
            "Processes that tokenize; 0: one for each core.", metavar="N",
            min=0)] = 0) -> Iterator[str]:
    """Measure a model on held-out text, beside simpler rivals.

    Held out are the documents that training never reads: one in ten, by
    their hash. gzip and xz, document by document, and a 3-gram model of the
    training text stand beside it; for Python, the share of written function
    bodies that parse.
    """
    if json_file and not json_file.resolve().parent.is_dir():
        raise typer.BadParameter(f"{json_file.parent} is no folder.",
                                 param_hint="--json")
    network, tokenizer = pair(model, device=usable(device),
                              dtype=torch.float32)
    with prepared(data, tokenizer, workers) as (training, held_out):
        yield f"{data}: {len(held_out):,} tokens are held out\n"
        found = evaluate_model(network, held_out, tokenizer, windows=windows)
        yield (f"loss {found['loss']:.3f} nats per token, perplexity"
               f" {found['perplexity']:.1f}, of {found['tokens']:,} tokens\n")
        trigram = Trigram(training.window(
            0, min(len(training), TRIGRAM_TOKENS)), len(tokenizer))
        ids, documents = (held_out.window(0, len(held_out)),
                          texts(held_out, tokenizer))
    rivals = {"model": found.pop("bits_per_byte"),
              "3-gram": trigram.bits_per_byte(ids, token_sizes(tokenizer)),
              **compressed_bits_per_byte(documents)}
    of_xz = {name: bits / rivals["xz -9e"] for name, bits in rivals.items()}
    yield "bits per byte            of xz's\n"
    for name, bits in rivals.items():
        yield f"  {name:12} {bits:6.3f} {of_xz[name]:10.2f}\n"
    numbers = {"model": model, "data": data, "held_out": len(held_out),
               **found, "bits_per_byte": rivals, "of_xz": of_xz, "bodies": {}}
    if chosen := some_headers(documents, headers):
        yield (f"bodies for {len(chosen)} held-out function headers,"
               f" {body_length(network)} tokens each, cut at the dedent\n")
        for who, rate in written_bodies(network, trigram, tokenizer, chosen,
                                        seed):
            numbers["bodies"][who] = rate
            yield (f"  {who:12} {rate['parse']} of the {rate['bodies']} with"
                   " 20 tokens or more parse" + (
                       f": {rate['rate']:.1%}\n" if rate["bodies"] else "\n"))
    elif headers:
        yield "no Python functions are held out: no bodies to write\n"
    if json_file:
        with written_whole(json_file) as beside:
            beside.write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")


def is_first() -> bool:
    """Does this process speak for all that torchrun has started?"""
    return os.environ.get("RANK", "0") == "0"


def write_once(text: str) -> None:
    if is_first():
        write(text)


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

    0; 2 for bad arguments or files, 1 for a loss that is no number, with one
    line on standard error; 130 after Ctrl-C and 143 after SIGTERM, where a
    training run is saved first; 141 when a pipe's reader has left. Any other
    exception is a fault of this program and keeps its traceback.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # The hub's library logs each of its attempts; the last one is our line.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        result = app(arguments, prog_name=PROGRAM, standalone_mode=False,
                     obj=arguments)
        if isinstance(result, int):        # --help and --version end with 0
            return result
        for text in result:
            write_once(text)
    except UsageError as error:
        what = error.format_message().rstrip(".") + "."
        return 2 if not is_first() else failed(f"{what} See {error.ctx.command_path} --help."
                      if error.ctx else what)
    except Interrupted as error:     # as it is: it holds a command to copy
        if is_first():
            print("gpt2:", error, file=sys.stderr)
        return error.code
    except NotFinite as error:
        if is_first():
            failed(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        return failed(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
