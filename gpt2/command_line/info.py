"""`python -m gpt2 info`: count a model."""
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Annotated

import torch
import typer

from gpt2.command_line.models import is_checkpoint
from gpt2.command_line.options import (OWN, OWN_NAME, examples, filled,
                                       own_model)
from gpt2.command_line.reports import amount
from gpt2.config import PRESETS, GPT2Config, config_to_dict
from gpt2.counting import count_parameters, flops_per_token, memory_bytes
from gpt2.kv_cache import cache_shape
from gpt2.pretrained import find_directory, read_config, stored_dtype

EXAMPLES = examples("python -m gpt2 info", "python -m gpt2 info gpt2-xl")
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")

Named = Annotated[str | None, typer.Argument(
    metavar="MODEL", callback=filled,
    help=f"{OWN} {', '.join(PRESETS)} are built in and need no file.")]


def info(model: Named = None) -> Iterator[str]:
    """Count a model: parameters by part, memory, FLOPs.

    Reads config.json and at most the header of the weights. Units are
    decimal: 1 MB is 1,000,000 bytes.
    """
    config, where, dtype = configured(
        own_model("MODEL") if model is None else model)
    usual, ours = config_to_dict(GPT2Config()), config_to_dict(config)
    fields = {name: ours[name] for name in usual
              if name in SIZES or ours[name] != usual[name]}
    for title, value, rows in [
            (f"{model or OWN_NAME} ({where})", "", fields),
            *counted(config, dtype)]:
        yield f"{title:41} {value:>16}".rstrip() + "\n"
        for name, value in rows.items():
            yield f"  {name:34} {value!s:>21}\n"


def configured(name: str) -> tuple[GPT2Config, str, torch.dtype]:
    """The configuration, where it is from, and the dtype of the weights."""
    if name in PRESETS and not Path(name, "config.json").is_file():
        config = GPT2Config.from_preset(name)
        return config, "built in, no file read", torch.float32
    folder = find_directory(name, ["config.json"])
    config = read_config(folder)
    dtype = torch.float32 if is_checkpoint(folder) else (
        stored_dtype(folder, config))
    return config, str(folder), dtype


def counted(config: GPT2Config,
            dtype: torch.dtype) -> list[tuple[str, str, dict[str, str]]]:
    """Groups of what was counted: title, total, {row: amount}."""
    parts, T = count_parameters(config), config.n_positions
    total, training = sum(parts.values()), memory_bytes(config)
    width, flops = dtype.itemsize, flops_per_token(config)
    token = 2 * prod(cache_shape(config, 1, 1)) * width      # keys, values
    return [
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
            "training: forward and backward": amount(3 * flops, "FLOP")})]
