"""What a run trains, on what text, and how: from its options to its start."""
import copy
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch

from gpt2.command_line.models import load_model
from gpt2.command_line.runs import (RUN_FILE, Run, is_finished, read_run,
                                    start_run)
from gpt2.config import GPT2Config
from gpt2.data import SPLITS, Batches, Tokens, prepare
from gpt2.files.errors import CheckpointError, DataError
from gpt2.model import GPT2
from gpt2.pretrained import load_tokenizer, save_tokenizer
from gpt2.resume import (checkpoints, require_new_form, require_same,
                         save_checkpoint, updates_done)
from gpt2.tokenizer import Tokenizer
from gpt2.training import (Engine, TrainingConfig, accumulate, measured_peak,
                           set_dropout)


class Plan(NamedTuple):
    """What a run trains, on what text, and how."""
    source: str                      # of the text: see `prepare`
    config: TrainingConfig
    model: GPT2
    tokenizer: Tokenizer
    warmup: int | None = None        # the preset's, if none was asked for

    def with_steps(self, steps: int) -> "Plan":
        """The plan for so many updates; if no warm-up was asked for, a tenth
        of them is the most."""
        warmup = self.config.warmup if self.warmup is None else min(
            self.warmup, steps // 10)
        return self._replace(config=replace(self.config, steps=steps,
                                            warmup=warmup))


def new_model(preset: str, tokenizer: Tokenizer, seed: int = 0) -> GPT2:
    """Random weights of a preset's size, with a row for each token id."""
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    return GPT2(GPT2Config.from_preset(
        preset, vocab_size=len(tokenizer), bos_token_id=end,
        eos_token_id=end))


# What differs from nano's numbers when a trained model goes on learning.
FINE_TUNING = dict(learning_rate=1e-4, warmup=50)


def new_plan(source: str, changes: dict, *, preset: str = "nano",
             tokenizer: str | Path | Tokenizer = "",
             init_from: str | Path | None = None) -> Plan:
    """A run that begins, with these changes to the preset's numbers.

    From random weights, for the ids of a tokenizer or of the one in a
    directory; with init_from, from that model and its own tokenizer.
    """
    if init_from is not None:
        config = TrainingConfig.from_preset("nano", **FINE_TUNING | changes)
        model, words = load_model(init_from, dtype=torch.float32)
    else:
        config = TrainingConfig.from_preset(preset, **changes)
        words = tokenizer if isinstance(tokenizer, Tokenizer) else (
            load_tokenizer(tokenizer))
        model = new_model(preset, words, config.seed)
    config = fitted(config, changes, model, words)
    set_dropout(model, config.dropout)
    usual = None if "warmup" in changes else config.warmup
    return Plan(source, config, model, words, usual).with_steps(config.steps)


def fitted(config: TrainingConfig, changes: dict, model: GPT2,
           tokenizer: Tokenizer) -> TrainingConfig:
    """The preset's length, or the model's if that is less. ValueError for a
    longer one that was asked for, CheckpointError for a tokenizer without a
    token to separate documents with."""
    if tokenizer.eos_token_id is None:
        raise CheckpointError("this tokenizer has no special token to"
                              " separate documents with; use another.")
    most = model.config.n_positions
    if changes.get("length", 0) > most:
        raise ValueError(f"length is {config.length}; this model goes to"
                         f" {most} tokens.")
    return replace(config, length=min(config.length, most))


def saved_plan(run: Path, changes: dict) -> Plan:
    """That of a run to go on with. DataError for changes of what is done
    already, and where there is nothing to go on from."""
    found = read_run(run)
    config = replace(found["training"], **changes)
    require_same(run / RUN_FILE, asdict(found["training"]), config,
                 math.inf if is_finished(run) else updates_done(run))
    if not checkpoints(run) and not is_finished(run):
        raise DataError(f"{run} has no checkpoint left to go on from. Remove"
                        " it, and start again without --resume.")
    if not is_finished(run):         # before its text is prepared again
        require_new_form(checkpoints(run)[-1])
    return Plan(found["source"], config, GPT2(found["model"]),
                load_tokenizer(run))


def steps_in(minutes: float, model: GPT2, batches: Batches,
             config: TrainingConfig, engine: Engine) -> int:
    """Updates that fit into so many minutes, from the speed measured here.

    Times a part of an update on a copy of the model: 2 micro-batches, three
    times. 5 % of the time are left for evaluation and checkpoints. Raises
    ValueError when no update fits.
    """
    engine.prepare(copy.deepcopy(model), config)
    ids, seconds = batches.read(0), []
    part = ids[:2 * config.micro_batch]
    for _ in range(3):
        began = time.perf_counter()
        float(accumulate(engine, part))
        engine.clip()
        engine.update(0.0)
        seconds.append(time.perf_counter() - began)
    update = float(engine.mean(torch.tensor(      # the same in all processes
        min(seconds) * len(ids) / len(part), device=engine.device)))
    steps = int(minutes * 60 * 0.95 / update)
    if steps < 1:
        raise ValueError(f"one update takes {update:.0f} s: none fits into"
                         f" {minutes:g} minutes. Use a smaller batch.")
    return steps


def open_run(directory: Path, plan: Plan, engine: Engine, *,
             workers: int = 1, **options) -> tuple[Batches, Run]:
    """The plan's text, prepared in the folder of its run, which is described
    with these options of `Run`."""
    config, place = plan.config, directory / "data"
    prepare(plan.source, plan.tokenizer, place, workers=workers)
    training, held_out = (Tokens(place, split, plan.tokenizer)
                          for split in SPLITS)
    batches = Batches(training, config.batch_size, config.length,
                      seed=config.seed, rank=engine.rank, world=engine.world)
    return batches, Run(directory, plan.tokenizer, held_out, **options,
                        peak=measured_peak(engine.device, config.precision))


def set_up(plan: Plan, engine: Engine, batches: Batches, run: Run, *,
           minutes: float | None = None, resume: bool = False,
           command: str = "") -> tuple[Plan, list[str]]:
    """All that comes before the first update: fit the schedule into the
    minutes, save the first checkpoint, describe the run.

    Returns the plan as it is now, and what differs from the session before.
    """
    if minutes is not None:
        plan = plan.with_steps(steps_in(minutes, plan.model, batches,
                                        plan.config, engine))
    if not resume:
        if engine.rank == 0:
            save_tokenizer(plan.tokenizer, run.directory)
        engine.prepare(copy.deepcopy(plan.model), plan.config)
        save_checkpoint(run.directory, 0, engine, batches, plan.tokenizer)
    if engine.rank:
        return plan, []
    return plan, start_run(run.directory, plan.config, plan.model.config,
                           plan.source, resume=resume, command=command)
