"""The ladder of speed-ups: one way to train after another, the same result.

record.py climbs it at full size, chapter 17 with a toy.
"""
import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gpt2.model import GPT2
from gpt2.scaling import (FastEngine, LiveBytes, Speed, can_compile,
                          clock_for)
from gpt2.training import Engine, TrainingConfig, parameter_groups


class Rung(NamedTuple):
    """One way to train; the mathematics is the same on every rung."""
    name: str
    explicit: bool = False               # chapter 05's formula, written out
    fused: bool = True                   # AdamW: one kernel
    tf32: bool = False
    precision: str = "float32"
    speed: Speed | None = None           # None: chapter 15's Engine

    def engine(self, device: str | torch.device, model: GPT2,
               config: TrainingConfig) -> Engine:
        """An engine that has taken over a copy of the model."""
        engine = Engine(device) if self.speed is None else FastEngine(
            device, self.speed)
        model = copy.deepcopy(model)
        for block in model.h:
            block.attn.explicit = self.explicit
        engine.prepare(model, replace(config, precision=self.precision))
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        if not self.fused:
            engine.optimizer = torch.optim.AdamW(
                parameter_groups(model, config.weight_decay), foreach=False,
                betas=(config.beta1, config.beta2))
        return engine


def ladder(device: str | torch.device = "cpu",
           loss_rows: int = 1024) -> list[Rung]:
    """From the plainest way to the leanest that this device knows."""
    rungs = [Rung("plain", explicit=True, fused=False),
             Rung("+ fused AdamW", explicit=True),
             Rung("+ fused attention")]
    if torch.device(device).type == "cuda":
        rungs += [Rung("+ TF32", tf32=True),
                  Rung("+ bfloat16", tf32=True, precision="bfloat16")]
    now = Speed(loss_rows=loss_rows, pad_to=1, tf32=rungs[-1].tf32)
    speeds = {"+ loss in rows": now}
    speeds["+ padded vocabulary"] = now = replace(now, pad_to=64)
    if can_compile(device):
        speeds["+ compile"] = now = replace(now, compile="inductor")
    speeds["+ checkpointing"] = replace(now, checkpoint=True)
    return rungs + [rungs[-1]._replace(name=name, speed=speed)
                    for name, speed in speeds.items()]


def measure_rung(rung: Rung, model: GPT2, config: TrainingConfig, ids: Tensor,
                 device: str | torch.device = "cpu", updates=4) -> dict:
    """Speed, memory, losses of updates on ids (B, T + 1), one not timed.
    peak_bytes: of CUDA's allocator, else LiveBytes; None where compiled."""
    engine, seconds, losses = rung.engine(device, model, config), [], []
    on_gpu, clock = engine.device.type == "cuda", clock_for(device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(1 + updates):
        began = clock()
        engine.optimizer.zero_grad()
        losses.append(float(engine.backward(ids, 1.0, True)))
        engine.clip()
        engine.update(1e-4)
        seconds.append(clock() - began)
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else (
        None if rung.speed and rung.speed.compile else counted(engine, ids))
    return {"rung": rung.name, "peak_bytes": peak, "losses": losses,
            "tokens_per_second": ids[:, 1:].numel() / min(seconds[1:])}


def counted(engine: Engine, ids: Tensor) -> int:
    """Bytes at the peak of an update: weights, gradients, moments, and what
    the passes over ids make."""
    with LiveBytes() as live:
        engine.backward(ids, 1.0, True)
    return live.peak + 16 * sum(p.numel() for p in engine.model.parameters())
