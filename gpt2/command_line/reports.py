"""What commands print and write: amounts, measurements, JSON."""
import json
import os
import sys
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

from gpt2.command_line.tasks import TASKS
from gpt2.data import Tokens
from gpt2.files.whole import written_whole
from gpt2.zero_shot import TABLE_3, TABLE_3_COLUMNS


def write(text: str) -> None:
    """To standard output, at once."""
    try:
        print(text, end="", flush=True)
    except OSError:     # the interpreter's last flush must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def amount(number: float, unit: str = "B") -> str:
    """A number with a decimal prefix and its unit, bytes by default."""
    for prefix, size in ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3):
        if number >= size:
            return f"{number / size:.1f} {prefix}{unit}"
    return f"{number} {unit}"


def copied(tokens: Tokens) -> str:
    """What of the held-out text was left out, for training has it too."""
    number = tokens.left_out.get("copied")
    return f" ({number} copied documents left out)" if number else ""


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


def paper_value(model: str, column: str) -> float | None:
    """What Table 3 says of a model; accuracies as shares. None: nothing."""
    if model not in TABLE_3 or column not in TABLE_3_COLUMNS:
        return None
    value = TABLE_3[model][TABLE_3_COLUMNS.index(column)]
    return value / 100 if column.endswith("accuracy") else value


def shown(name: str, value: float) -> str:
    """A number as one reads it: shares in percent, counts whole."""
    if name.startswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def report(numbers: dict, model: str = "") -> Iterator[str]:
    """The lines of a result, with its intervals and the paper's numbers."""
    columns = TASKS[numbers["task"]].columns
    known = {True: "as published", False: "not the published file",
             None: "no checksum known"}[numbers["as_published"]]
    yield f"{numbers['task']}: {numbers['file']}, {known}"
    for name, value in numbers.items():
        if isinstance(value, (int, float)) and name != "as_published":
            line = f"  {name.replace('_', ' '):22} {shown(name, value):>12}"
            if interval := numbers.get(name + "_interval"):
                low, high = (f"{each:.1%}" for each in interval)
                line += f"   95 %: {low} to {high}"
            said = paper_value(model, columns.get(name, ""))
            if said is not None:
                line += f"   in the paper: {shown(name, said)}"
            yield line
