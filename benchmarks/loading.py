"""Our load_pretrained beside transformers' from_pretrained, in one run.

    python benchmarks/loading.py                      124M shape, a minute
    python benchmarks/loading.py --preset gpt2-medium --repeats 3

transformers writes a checkpoint of random weights into a temporary directory.
Then fresh processes, ours and theirs in turn, load it. Measured in each:

    load   seconds until the call returns. Ours maps the file, so nothing has
           been read then; not the whole truth.
    ready  seconds until every parameter was summed, too: all weights are in.
    peak   most resident memory from before the call until then, less what
           the interpreter and all imports held before, over the bytes of the
           weights. Mapped pages count as soon as they are touched. Linux.

The file is in the system's cache, for both sides. Times are the median of all
repeats. A ratio theirs / ours above 1 says that ours is faster. JSON goes to
stdout; exit code 1 if `ready` is slower than theirs or a peak above 1.15.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common                        # first: it says where gpt2 is

LIMIT = 1.15                        # peak memory over the weights


def write_checkpoint(preset, dtype, directory):
    """A checkpoint as transformers writes it; bytes of its weights."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from gpt2.checks import reference_model
    from gpt2.config import GPT2Config
    disable_progress_bar()
    theirs = reference_model(GPT2Config.from_preset(preset),
                             dtype=getattr(torch, dtype))
    theirs.save_pretrained(directory)
    return sum(p.numel() * p.element_size() for p in theirs.parameters())


def resident():
    """Bytes resident now; on Linux the peak is counted anew from here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass                        # then the peak may be that of the imports
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return peak()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def peak():
    """Most bytes resident, since resident() where the system allows."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def child(side, directory):
    """Load once, print what it took as one line of JSON."""
    import torch
    if side == "ours":
        import safetensors.torch    # noqa: F401, loaded late by ours
        from gpt2.pretrained import load_pretrained as load
    else:
        from transformers import GPT2LMHeadModel
        from transformers.utils.logging import disable_progress_bar
        disable_progress_bar()
        load = GPT2LMHeadModel.from_pretrained
    before = resident()
    start = time.perf_counter()
    model = load(directory)
    loaded = time.perf_counter()
    with torch.no_grad():
        total = sum(p.sum(dtype=torch.float64) for p in model.parameters())
    ready = time.perf_counter()
    most = peak()
    with torch.no_grad():           # it must be a model that works
        logits = model(torch.arange(8)[None]).logits
    print(json.dumps({"load": loaded - start, "ready": ready - start,
                      "bytes": most - before, "sum": total.item(),
                      "logit": logits[0, -1, 0].item()}))


def run(side, directory):
    command = [sys.executable, __file__, "--child", side, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(directory, repeats):
    """{side: [one measurement a repeat]}; the sides take turns."""
    found = {"ours": [], "theirs": []}
    for repeat in range(repeats + 1):           # the first one warms up
        for side in (list(found), list(found)[::-1])[repeat % 2]:
            result = run(side, directory)
            if repeat:
                found[side].append(result)
    for name in ("sum", "logit"):
        values = [r[name] for side in found.values() for r in side]
        spread = max(values) - min(values)
        assert spread <= 1e-4 * max(1, abs(values[0])), f"{name} differs"
    return found


def main():
    parser = common.parser(__doc__, preset="gpt2")
    parser.add_argument("--dtype", default="float32",
                        choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)

    with tempfile.TemporaryDirectory() as directory:
        size = write_checkpoint(args.preset, args.dtype, directory)
        found = measure(directory, args.repeats)
    sides = {side: {
        "load_seconds": statistics.median(r["load"] for r in results),
        "ready_seconds": statistics.median(r["ready"] for r in results),
        "peak_over_weights": max(r["bytes"] for r in results) / size,
    } for side, results in found.items()}
    ours, theirs = sides["ours"], sides["theirs"]
    ratios = {f"{what}: theirs / ours": theirs[name] / ours[name]
              for what, name in (("load", "load_seconds"),
                                 ("ready", "ready_seconds"),
                                 ("peak", "peak_over_weights"))}
    common.report(args, weights_bytes=size, **sides, ratios=ratios)
    kept = (ours["ready_seconds"] <= theirs["ready_seconds"]
            and ours["peak_over_weights"] <= LIMIT)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
