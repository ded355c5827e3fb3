"""`python -m gpt2 train`: train a model, or go on training it."""
import copy
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from math import inf
from pathlib import Path
from typing import NamedTuple

import typer

from gpt2.command_line.loop import train_run
from gpt2.command_line.options import (DATA, PROGRAM, Device, Workers, cores,
                                       examples, flag, given_options, located,
                                       named, option, own_model, real,
                                       refuse, seeded, whole)
from gpt2.command_line.plans import (Plan, new_plan, open_run, saved_plan,
                                     set_up)
from gpt2.command_line.reports import copied, write
from gpt2.command_line.runs import (is_finished, last_evaluation,
                                    require_new, save_model)
from gpt2.config import PRESETS, GPT2Config
from gpt2.data import learn_tokenizer
from gpt2.distributed import ENGINES, choose_engine, joined
from gpt2.files.locks import alone
from gpt2.resume import on_first
from gpt2.scaling import FastEngine, Speed, find_micro_batch
from gpt2.training import PRECISIONS, TrainingConfig, find_device

EXAMPLES = examples(
    "python -m gpt2 train --data stdlib --out runs/small --minutes 30",
    "python -m gpt2 train --out runs/small --resume",
    "python -m gpt2 train --init-from gpt2 --data shakespeare"
    " --out runs/tuned")
Parallelism = Enum("Parallelism", {name: name for name in (
    "auto", *ENGINES)}, type=str)
Arithmetic = Enum("Arithmetic", {name: name for name in PRECISIONS}, type=str)

Out = located(Path, "The run's folder: tokens, metrics.jsonl, checkpoints/,"
              " and at the end model/ and loss.png.", metavar="DIR")
Preset = named(f"{', '.join(PRESETS)}: the model's size and the numbers of"
               " the training. By default nano.", metavar="NAME")
Data = named(f"{DATA} By default stdlib.", metavar="DATA")
InitFrom = named("Fine-tune this model, with its own tokenizer, instead of"
                 " starting from random weights.", metavar="MODEL")
OwnTokenizer = named(
    "Its directory, or a name on the hub. By default the book's own, with"
    " 4,096 entries; for a published size one of 50,257 is learned from DATA"
    " first.", metavar="MODEL")
Resume = flag("Go on with the run in --out, with its own numbers; --max-steps"
              " and --decay may be others while its rate is still at the top."
              " A finished one is not lengthened: see --init-from.",
              "--resume")
MaxSteps = whole("Updates in the whole schedule.", min=1)
Minutes = real("Fit the schedule to this time, at the speed measured first.")
BatchSize = whole("Sequences per update.", min=1)
MicroBatch = named("Sequences at once, per process; changes memory and speed"
                   " alone. auto: as many as fit.", metavar="N|auto")
Length = whole("Tokens per sequence.", min=2)
LearningRate = real("At the top of the schedule.")
Warmup = whole("Updates until the top. By default at most a tenth of all.",
               min=0)
Decay = whole("Let the rate fall in so many updates at the end, and stay at"
              " its top before; 0: fall from the warm-up on.", min=0)
Dropout = real("The rate of all three places.")
Precision = option(Arithmetic | None, "What the forward pass computes in.")
Deterministic = option(bool | None, "The same bits again on a GPU, slower.",
                       "--deterministic")
Seed = seeded("Of weights, batches and dropout.")
EvalEvery = whole("Updates between evaluations.", min=1)
SampleEvery = whole("Updates between samples; 0: none.", min=0)
SaveEvery = whole("Updates between checkpoints.", min=1)
Keep = whole("Checkpoints to keep.", min=1)
Parallel = option(
    Parallelism, "How processes that torchrun has started share the work:"
    " ddp, whole models; fsdp, in pieces; auto is ddp there.")
Compiled = flag("Let torch.compile build the blocks and the loss.",
                "--compile")
Checkpointing = flag("Less memory, a third more to compute.",
                     "--checkpoint-activations")
TF32 = flag("float32 products on a GPU with 10 bits of fraction.", "--tf32")


def train(
        context: typer.Context, out: Out, preset: Preset = None,
        data: Data = None, init_from: InitFrom = None,
        tokenizer: OwnTokenizer = None, resume: Resume = False,
        max_steps: MaxSteps = None, minutes: Minutes = None,
        batch_size: BatchSize = None, micro_batch: MicroBatch = None,
        length: Length = None, learning_rate: LearningRate = None,
        warmup: Warmup = None, decay: Decay = None, dropout: Dropout = None,
        precision: Precision = None, deterministic: Deterministic = None,
        seed: Seed = None, eval_every: EvalEvery = None,
        sample_every: SampleEvery = None, save_every: SaveEvery = None,
        keep: Keep = None, parallel: Parallel = "auto",
        compiled: Compiled = False,
        checkpoint_activations: Checkpointing = False, tf32: TF32 = False,
        device: Device = None, workers: Workers = 0) -> Iterator[str]:
    """Train a model, or go on training it.

    Ctrl-C saves the run and ends with code 130; --resume goes on, bit for
    bit as if nothing had happened. Where standard error is no terminal, each
    evaluation prints a line instead of the progress bar.
    """
    words = given_options(preset=preset, data=data, init_from=init_from,
                          tokenizer=tokenizer, minutes=minutes)
    check_together(words, resume, max_steps)
    changes = given_options(
        steps=max_steps, batch_size=batch_size, length=length, warmup=warmup,
        micro_batch=size_of(micro_batch), learning_rate=learning_rate,
        decay=decay, dropout=dropout, deterministic=deterministic, seed=seed,
        precision=precision and precision.value, eval_every=eval_every,
        sample_every=sample_every, save_every=save_every, keep=keep)
    speed = Speed(compile="inductor" if compiled else "", tf32=tf32,
                  checkpoint=checkpoint_activations)
    order = Order(out, words, changes, resume, micro_batch == "auto",
                  cores(workers), as_command(*context.find_root().obj),
                  as_command("train", "--resume", "--out", str(out), *(
                      ["--device", device] if device else [])))
    with joined(find_device(device)) as place:
        engine = choose_engine(place, Parallelism(parallel).value, speed)
        yield from (text for text in carried_out(order, engine)
                    if engine.rank == 0)         # one of several speaks


class Order(NamedTuple):
    """What the options ask for."""
    out: Path
    words: dict              # preset, data, init_from, tokenizer, minutes
    changes: dict            # of TrainingConfig's numbers
    resume: bool
    find: bool               # the largest micro-batch that fits
    workers: int
    command: str             # as it was given
    again: str               # the one that resumes


def as_command(*words: str) -> str:
    """This program with these words, as a shell takes it."""
    return shlex.join([*PROGRAM.split(), *words])


def check_together(words: dict, resume: bool, max_steps: int | None) -> None:
    """Refuse options that do not go together."""
    minutes = words.get("minutes")
    refuse(resume and words, "--resume", "the run in --out knows its own"
           " model, data and schedule; drop " + ", ".join(
               "--" + name.replace("_", "-") for name in words) + ".")
    refuse(minutes is not None and max_steps is not None, "--minutes",
           "--max-steps says the same; drop one of the two.")
    refuse(minutes is not None and not 0 < minutes < inf, "--minutes",
           f"{minutes} is no time to train in.")
    refuse("init_from" in words and {"preset", "tokenizer"} & words.keys(),
           "--init-from", "this model has its own size and tokenizer; drop"
           " --preset and --tokenizer.")


def size_of(micro_batch: str | None) -> int | None:
    """The number that was given, if it was one."""
    if micro_batch in (None, "auto"):
        return None
    refuse(not re.fullmatch("[1-9][0-9]{0,8}", micro_batch),
           "--micro-batch", f"{micro_batch!r} is neither a number of at"
           " least 1 nor auto.")
    return int(micro_batch)


def carried_out(order: Order, engine: FastEngine) -> Iterator[str]:
    """Begin a run or go on with one, alone in its folder, to its end."""
    with ExitStack() as held:
        if order.resume:
            plan = saved_plan(order.out, order.changes)
            if is_finished(order.out):
                yield finished(order.out, plan)
                return
        on_first(lambda: held.enter_context(alone(order.out, "training")))
        if not order.resume:
            plan = yield from begun(order, engine)
        yield from trained(order, plan, engine)


def begun(order: Order, engine: FastEngine) -> Iterator[str]:
    """Returns the plan of a new run."""
    on_first(lambda: require_new(order.out))
    words = {"preset": "nano", "data": "stdlib", **order.words}
    preset, data = words["preset"], words["data"]
    tokenizer = words.get("init_from") or words.get("tokenizer")
    if not tokenizer and preset != "nano":
        size = checked_size(preset, order.changes)
        yield f"learning {size:,} tokens from {data}\n"
        tokenizer = on_first(lambda: learn_tokenizer(data, size))
    return new_plan(data, order.changes, preset=preset,
                    init_from=words.get("init_from"),
                    tokenizer=tokenizer or own_model("--tokenizer"))


def finished(out: Path, plan: Plan) -> str:
    """What there is to say of a run that is to go on and has ended."""
    return (f"{out} is finished: all {plan.config.steps:,} updates done;"
            f" {ending(out)}To train it further, begin a run with --init-from"
            f" {shlex.quote(str(out / 'model'))}: its optimizer and schedule"
            " begin anew.\n")


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


def trained(order: Order, plan: Plan, engine: FastEngine) -> Iterator[str]:
    """Train to the end of the plan, and save the model."""
    if order.find:
        plan = plan._replace(config=replace(
            plan.config, micro_batch=find_micro_batch(
                engine, copy.deepcopy(plan.model), plan.config)))
        yield f"micro-batches of {plan.config.micro_batch}\n"
    bar = sys.stderr is not None and sys.stderr.isatty()
    batches, run = open_run(
        order.out, plan, engine, workers=order.workers, again=order.again,
        report=None if bar else lambda line: write(line + "\n"))
    plan, different = set_up(
        plan, engine, batches, run, minutes=order.words.get("minutes"),
        resume=order.resume, command=order.command)
    yield from (f"differs from the session before: {line}\n"
                for line in different)
    yield (f"{plan.source}: {len(batches.tokens):,} tokens to train on,"
           f" {len(run.validation):,} held out{copied(run.validation)};"
           f" {plan.config.steps:,} updates"
           f" of {plan.config.batch_size} x {plan.config.length} tokens\n")
    train_run(plan.model, batches, plan.config, engine, run)
    model = engine.whole_model()
    if engine.rank == 0:
        save_model(order.out, model, plan.tokenizer)
        yield ending(order.out)
