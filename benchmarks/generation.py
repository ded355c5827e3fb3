"""Our generate beside transformers' in one run.

    python benchmarks/generation.py                   nano, about two minutes
    python benchmarks/generation.py --preset gpt2 --new 64 --repeats 3

Greedy, equal weights, no end token, batches of 1 and of 8 prompts, with the
cache and without; the two take turns, so that a change of the machine's
speed meets both. Times are the fastest of all rounds, in milliseconds per
step; above 1, a ratio theirs / ours says that ours is faster. The tokens are
asserted to be the same. `late / early` compares a step near the end of a
text of n_positions tokens with one near its beginning, `grown_bytes` what
the process holds after many texts more than after one. JSON goes to stdout;
OMP_NUM_THREADS=1 makes it steadier, --compile adds compiled steps.
"""
import gc
import os
import time
from pathlib import Path

import common                        # first: it says where gpt2 is
import torch

from gpt2.checks import reference_model, reference_state
from gpt2.config import GPT2Config
from gpt2.generation import generate, stream
from gpt2.model import GPT2

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(preset, dtype, device):
    """(ours, theirs) with equal weights; no end token."""
    config = GPT2Config.from_preset(preset, eos_token_id=None)
    theirs = reference_model(config, dtype=dtype)
    ours = GPT2(config).to(dtype).eval()
    ours.load_state_dict(reference_state(theirs))
    return ours.to(device), theirs.to(device)


@torch.inference_mode()
def without_cache(model, ids, count):
    """Greedy tokens, the whole text read again at each step."""
    for _ in range(count):
        logits = model(ids, logits_to_keep=1).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids


def calls(ours, theirs, ids, count, compiled):
    """{task: {who: a function that returns tokens}}"""
    hf = dict(max_new_tokens=count, do_sample=False, eos_token_id=None,
              attention_mask=torch.ones_like(ids))
    tasks = {
        "cache": {
            "ours": lambda: generate(ours, ids, count),
            "theirs": lambda: theirs.generate(ids, **hf)},
        "no_cache": {
            "ours": lambda: without_cache(ours, ids, count),
            "theirs": lambda: theirs.generate(ids, use_cache=False, **hf)}}
    if compiled:
        tasks["cache"]["ours_compiled"] = lambda: generate(
            ours, ids, count, compile=True)
    return tasks


def timed(call, device):
    """(milliseconds, result) of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start), result


def measure(ours, theirs, batch, args, device):
    """{task: {who: milliseconds per step}, ...} of a batch size."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, ours.config.vocab_size, (batch, args.prompt),
                        generator=generator).to(device)
    tasks = calls(ours, theirs, ids, args.new, args.compile)
    times = {task: {who: [] for who in by} for task, by in tasks.items()}
    for repeat in range(args.repeats + 1):          # the first one warms up
        for task, by in tasks.items():
            found = {who: timed(call, device) for who, call in by.items()}
            for who, (value, tokens) in found.items():
                same = torch.equal(tokens, found["theirs"][1])
                assert same or args.dtype != "float32", (task, who)
                if repeat:
                    times[task][who].append(value / args.new)
    return {task: {who: min(values) for who, values in by.items()}
            for task, by in times.items()}


def growth(ours, device):
    """How a step near the end of the longest text compares with an early
    one, and with what a cache of that length makes attention cost."""
    count = ours.config.n_positions - 8
    ids = torch.zeros(1, 8, dtype=torch.long, device=device)
    rounds = []
    for _ in range(3):
        steps, stamps = stream(ours, ids, count), []
        for _ in steps:
            if device.type == "cuda":
                torch.cuda.synchronize()
            stamps.append(time.perf_counter())
        rounds.append([b - a for a, b in zip(stamps, stamps[1:])])
    best = [min(times) for times in zip(*rounds)]

    def middle(values):
        return sorted(values)[len(values) // 2]

    return middle(best[-50:]) / middle(best[:50])


def resident():
    """Bytes of memory that the process holds, or None where unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def grown(ours, device, texts=20):
    """Bytes held after `texts` more texts than one; None where unknown."""
    ids = torch.zeros(8, 8, dtype=torch.long, device=device)

    def held():
        generate(ours, ids, 64)
        gc.collect()
        if device.type == "cuda":
            return torch.cuda.memory_allocated()
        return resident()

    held()
    before = held()
    for _ in range(texts):
        after = held()
    return None if before is None else after - before


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    device = torch.device(args.device)
    ours, theirs = build(args.preset, DTYPES[args.dtype], device)
    times = {f"batch {batch}": measure(ours, theirs, batch, args, device)
             for batch in (1, 8)}
    ratios = {batch: {f"{task}, theirs / {who}": by["theirs"] / by[who]
                      for task, by in tasks.items() for who in by
                      if who != "theirs"} | {
        "ours, without a cache / with":
            tasks["no_cache"]["ours"] / tasks["cache"]["ours"]}
        for batch, tasks in times.items()}
    common.report(args, device, milliseconds_per_step=times, ratios=ratios,
                  **{"late / early": growth(ours, device)},
                  grown_bytes=grown(ours, device))


if __name__ == "__main__":
    main()
