"""A run's folder: what describes it, what it logs, and what it leaves."""
import json
import math
import platform
import shlex
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gpt2.config import GPT2Config, config_from_dict, config_to_dict
from gpt2.data import Batches, Tokens
from gpt2.files.errors import CheckpointError, DataError
from gpt2.files.whole import (read_json, remove_directory, remove_leftovers,
                              write_json, written_directory, written_whole)
from gpt2.model import GPT2
from gpt2.pretrained import save_pretrained, save_tokenizer
from gpt2.resume import (checkpoints, load_newest, on_first, read_training,
                         require_same, save_checkpoint, updates_done)
from gpt2.tokenizer import Tokenizer
from gpt2.training import Engine, TrainingConfig

RUN_FILE, LOG_FILE = "training.json", "metrics.jsonl"


@dataclass
class Run:
    """Where a run keeps its files, and what is looked at on the way.

    validation: held-out tokens. peak: FLOP/s that MFU is of. report: told a
    line at each evaluation. again: the command that resumes.
    """
    directory: Path
    tokenizer: Tokenizer
    validation: Tokens | None = None
    peak: float | None = None
    report: Callable[[str], None] | None = None
    again: str = ""

    def __post_init__(self):
        self.directory = Path(self.directory)
        self.again = self.again or ("python -m gpt2 train --resume --out"
                                    f" {shlex.quote(str(self.directory))}")


class Interrupted(Exception):
    """A signal ended the run, which is saved. `code`: the exit status that
    says which; again: the command that goes on with it."""

    def __init__(self, caught: list[int], again: str, step: int):
        number = caught[0] if caught else signal.SIGTERM     # another process
        self.code = 128 + number
        super().__init__(f"{signal.Signals(number).name} after update"
                         f" {step:,}: saved; go on with: {again}")


# --- the log ----------------------------------------------------------------
def as_json(row: dict) -> str:
    """One line; null for a number that JSON does not know: nan, inf."""
    return json.dumps({key: value if not isinstance(value, float)
                       or math.isfinite(value) else None
                       for key, value in row.items()})


class Log:
    """metrics.jsonl of a run: one JSON object a line, also kept in `rows`.

    path: None writes nothing."""

    def __init__(self, path: Path | None):
        self.rows, self.path = [], path

    def rewind(self, step: int) -> None:
        """Forget what was written after this update, and a torn line."""
        self.rows = [row for row in read_rows(self.path)
                     if row["step"] <= step]
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as beside:
                beside.write_text("".join(as_json(row) + "\n"
                                          for row in self.rows), "utf-8")

    def add(self, **row) -> None:
        """Append a row; it outlives this process at once."""
        self.rows.append(row)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(as_json(row) + "\n")

    def has(self, step: int, key: str) -> int:
        """How many rows of this update, the newest, have this key."""
        newest = [row for row in self.rows[-100:] if row["step"] == step]
        return sum(key in row for row in newest)


def read_rows(path: str | Path | None) -> list[dict]:
    """The rows of a metrics.jsonl; a last line that is torn is left out."""
    if path is None or not Path(path).exists():
        return []
    rows = []
    for line in Path(path).read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def last_evaluation(run: Path) -> dict:
    """The newest evaluation in the run's log; empty if there is none."""
    rows = [row for row in read_rows(run / LOG_FILE)
            if "validation_loss" in row]
    return rows[-1] if rows else {}


# --- its numbers ------------------------------------------------------------
def session(command: str) -> dict:
    """What the results of a run depend on besides its numbers."""
    return {"command": command, "python": platform.python_version(),
            "torch": torch.__version__, "threads": torch.get_num_threads()}


def read_run(directory: str | Path) -> dict:
    """training.json again: `training` a TrainingConfig, `model` a
    GPT2Config, `source`, `sessions`. Raises DataError without one."""
    path = Path(directory, RUN_FILE)
    if not path.exists():
        raise DataError(f"{directory} holds no run: it has no {RUN_FILE}.")
    content = read_json(path)
    if missing := {"training", "model", "source", "sessions"} - set(content):
        raise DataError(f"{path} is damaged: it has no {min(missing)}.")
    return {**content, "training": read_training(path, content["training"]),
            "model": config_from_dict(content["model"])}


def join_sessions(path: Path, content: dict, resume: bool) -> list[dict]:
    """The sessions of a run and the new one, if it may be resumed so."""
    if not resume:
        raise DataError(f"{path.parent} holds a run already. Resume it"
                        " (--resume), or choose another directory.")
    if not path.exists():
        raise DataError(f"{path.parent} holds no run to resume: it has no"
                        f" {RUN_FILE}. Start one, without --resume.")
    before = read_json(path)
    require_same(path, before["training"],
                 TrainingConfig(**content["training"]),
                 updates_done(path.parent))
    for key in ("model", "source"):
        if before[key] != content[key]:
            raise DataError(f"{path} is of another {key}: resume with it.")
    return [*before["sessions"], *content["sessions"]]


def start_run(directory: str | Path, config: TrainingConfig,
              model: GPT2Config, source: str, *, command: str = "",
              resume: bool = False) -> list[str]:
    """Write training.json: all numbers, the data's name, the command,
    versions and threads. Returns what differs from the session before: the
    results are then equal, but not to the last bit.

    Raises DataError if the directory holds a run already; with resume, if
    it holds none, or one of another configuration.
    """
    path = Path(directory, RUN_FILE)
    content = {"training": asdict(config), "model": config_to_dict(model),
               "source": source, "sessions": [session(command)]}
    different = []
    if resume or path.exists():
        content["sessions"] = join_sessions(path, content, resume)
        before, now = content["sessions"][-2:]
        different = [f"{key} {now[key]}, before {before[key]}" for key in now
                     if key != "command" and now[key] != before[key]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside:
        write_json(beside, content)
    return different


# --- begun, saved, finished -------------------------------------------------
def require_new(run: Path) -> None:
    """Raise DataError if something was trained here. What a start that was
    killed has left, is removed."""
    if (run / RUN_FILE).exists() or is_finished(run) or updates_done(run):
        raise DataError(f"{run} holds a run already. Resume it (--resume), or"
                        " choose another folder.")
    for path in checkpoints(run):
        remove_directory(path)


def begin(engine: Engine, batches: Batches,
          run: Run) -> tuple[int | None, Log]:
    """Continue from the run's newest checkpoint, if it has one.

    Returns the number of updates done, None without a checkpoint; the log.
    """
    log = Log(None)
    if engine.rank == 0:
        remove_leftovers(run.directory, run.directory / "checkpoints")
        log = Log(run.directory / LOG_FILE)
    step = load_newest(run.directory, engine, batches)
    log.rewind(step or 0)
    newest = on_first(lambda: log.rows[-100:])   # all must know what was done
    if engine.rank:
        log.rows = newest
    return step, log


def save_run(step: int, engine: Engine, batches: Batches, run: Run) -> None:
    """`save_checkpoint`; its error also says how to go on."""
    try:
        save_checkpoint(run.directory, step, engine, batches, run.tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Make room, then go on with:"
                              f" {run.again}") from error


def save_model(run: Path, model: GPT2, tokenizer: Tokenizer) -> None:
    """Write `model/` of a run that has ended: it appears whole."""
    with written_directory(run / "model") as beside:
        save_pretrained(model, beside)
        save_tokenizer(tokenizer, beside,
                       model_max_length=model.config.n_positions)


def is_finished(run: Path) -> bool:
    """Is the model there? It comes after everything else."""
    return (run / "model").exists()
