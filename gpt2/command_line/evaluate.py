"""`python -m gpt2 evaluate`: measure a model on text it has not read."""
from collections.abc import Iterator
from pathlib import Path

import torch
import typer

from gpt2.command_line.bodies import compare
from gpt2.command_line.models import load_model
from gpt2.command_line.options import (DATA, Device, Model, Workers, cores,
                                       examples, located, named, own_model,
                                       refuse, seeded, whole)
from gpt2.command_line.reports import (copied, report, told,
                                       write_numbers)
from gpt2.command_line.tasks import TASKS, WINDOWED, evaluate_task
from gpt2.data import open_splits
from gpt2.training import find_device

EXAMPLES = examples(
    "python -m gpt2 evaluate --data stdlib --windows 100 --headers 50",
    "python -m gpt2 evaluate --model runs/small/model --data runs/small/data",
    "python -m gpt2 evaluate --model runs/tuned/model --data shakespeare",
    "python -m gpt2 evaluate --model gpt2 --task lambada")

Data = named(f"{DATA} Or the data/ of a run. By default stdlib; with --task a"
             " file in its format, by default the published one.",
             metavar="DATA")
Task = named(f"{', '.join(TASKS)}: measure this instead, zero-shot. text is"
             " any file of yours; where no spaces stand between words,"
             " perplexity per word says nothing: read its bits per byte.",
             metavar="NAME")
Limit = whole("Only so many documents of the task.", min=1)
Stride = whole("Tokens from one window to the next, of the tasks"
               f" {' and '.join(sorted(WINDOWED))}. By default half of what"
               " the model reads.", min=1)
Windows = whole("Let the model read so many windows of held-out text, spread"
                " evenly; 0: all of it.", min=0)
Headers = whole("Of so many held-out Python functions let the model write"
                " the body.", min=0)
Seed = seeded("Of what is written.")
JSONFile = located(Path | None, "Write the numbers there as well; null stands"
                   " for inf, which JSON does not know.", "--json",
                   metavar="FILE")


def evaluate(
        context: typer.Context, model: Model = None, data: Data = None,
        task: Task = None, limit: Limit = None, stride: Stride = None,
        windows: Windows = 0, headers: Headers = 500, seed: Seed = 0,
        json_file: JSONFile = None, device: Device = None,
        workers: Workers = 0) -> Iterator[str]:
    """Measure a model on held-out text, beside simpler rivals.

    Held out are the documents that training never reads: one in ten, by
    their hash, less those that training text holds as copies. gzip and xz,
    document by document, and a 3-gram model of the training text stand
    beside it; for Python, the share of written function bodies that parse.
    With --task: one of the GPT-2 paper's measurements, beside the paper's
    own numbers where the model is one of its four.
    """
    check_task(context, task)
    refuse(json_file and not json_file.resolve().parent.is_dir(), "--json",
           f"{json_file and json_file.parent} is no folder.")
    model = own_model() if model is None else model
    network, tokenizer = load_model(model, device=find_device(device),
                                   dtype=torch.float32)
    if task is not None:
        options = {} if stride is None else {"stride": stride}
        numbers = {"model": model, **evaluate_task(
            task, network, tokenizer, data, limit=limit, progress=task,
            **options)}
        yield from (line + "\n" for line in report(numbers, model))
    else:
        numbers = {"model": model}
        yield from compared(
            network, tokenizer, "stdlib" if data is None else data,
            cores(workers), numbers, windows=windows, headers=headers,
            seed=seed)
    write_numbers(json_file, numbers)


def check_task(context: typer.Context, task: str | None) -> None:
    """Refuse an unknown task, and options that have no use here."""
    refuse(task is not None and task not in TASKS, "--task",
           f"no task {task!r}; there are {', '.join(TASKS)}.")
    for name in (["limit", "stride"] if task is None else
                 ["windows", "headers", "seed", "workers"]):
        refuse(context.get_parameter_source(name).name == "COMMANDLINE",
               f"--{name}",
               f"it goes {'only' if task is None else 'not'} with --task.")


def compared(network: torch.nn.Module, tokenizer, data: str, workers: int,
             numbers: dict, **options) -> Iterator[str]:
    """Text on the model and its rivals, whose numbers are added to
    `numbers`. options: those of `compare`."""
    with open_splits(data, tokenizer, workers) as (training, unread):
        numbers |= {"data": data, "held_out": len(unread),
                    "left_out": unread.left_out}
        bodies = {}
        yield (f"{data}: {len(unread):,} tokens are held out"
               f"{copied(unread)}\n")
        for part in compare(network, tokenizer, training, unread, **options):
            yield from told(part)
            bodies |= part.get("bodies", {})
            numbers |= part
    numbers["bodies"] = bodies
