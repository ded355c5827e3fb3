"""Our GPT2 beside transformers' in one run: forward, training step, decoding.

    python benchmarks/forward.py                      nano, under a minute
    python benchmarks/forward.py --preset gpt2 -B 1 -T 256

Four models with equal weights take turns, so that a change of the machine's
speed meets all of them: ours fused and explicit, theirs sdpa and eager. Times
are the fastest of all rounds, in milliseconds (other work on the machine only
ever adds); above 1, a ratio theirs / ours says that ours is faster. JSON goes
to stdout. OMP_NUM_THREADS=1 makes it steadier.
"""
import time

import common                        # first: it says where gpt2 is
import torch
from transformers import DynamicCache

from gpt2.checks import reference_model, reference_state
from gpt2.config import GPT2Config
from gpt2.kv_cache import KVCache
from gpt2.model import GPT2

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(config, dtype, device):
    """{name: (model, whether it is ours)}: four models, equal weights."""
    models = {}
    for attention in ("sdpa", "eager"):
        theirs = reference_model(config, attention=attention, dtype=dtype)
        models[f"theirs_{attention}"] = theirs.to(device)
    for name in ("fused", "explicit"):
        ours = GPT2(config).to(dtype).eval()
        ours.load_state_dict(reference_state(theirs))
        for block in ours.h:
            block.attn.explicit = name == "explicit"
        models[f"ours_{name}"] = ours.to(device)
    return models


@torch.no_grad()
def forward(model, ids):
    if isinstance(model, GPT2):
        return model(ids).logits
    return model(ids, use_cache=False).logits


def forward_backward(model, ids):
    extra = {} if isinstance(model, GPT2) else {"use_cache": False}
    model.zero_grad(set_to_none=True)
    model(ids, labels=ids, **extra).loss.backward()


@torch.no_grad()
def prefill(model, ids, room):
    """A cache that holds the prompt ids."""
    if isinstance(model, GPT2):
        cache = KVCache(model.config, len(ids), ids.shape[1] + room,
                        device=ids.device, dtype=model.wte.weight.dtype)
        model(ids, cache=cache, logits_to_keep=1)
    else:
        cache = DynamicCache(config=model.config)
        model(ids, past_key_values=cache, logits_to_keep=1)
    return cache


@torch.no_grad()
def decode(model, token, steps, cache):
    """Greedy steps, one token at a time; tokens (B, steps)."""
    chosen = []
    for _ in range(steps):
        if isinstance(model, GPT2):
            logits = model(token, cache=cache, logits_to_keep=1).logits
        else:
            logits = model(token, past_key_values=cache,
                           logits_to_keep=1).logits
        token = logits[:, -1:].argmax(-1)
        chosen.append(token)
    return torch.cat(chosen, dim=1)


def timed(call, device):
    """Milliseconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def measure(models, args, config, device):
    """{task: {model: fastest, in milliseconds}}; the models take turns."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (args.batch, args.length),
                        generator=generator).to(device)
    prompt, steps = ids[:, :args.length - args.steps], args.steps
    times = {task: {name: [] for name in models} for task in (
        "forward", "forward_backward", "decode_per_token")}
    for repeat in range(args.repeats + 1):          # the first one warms up
        for name, model in models.items():
            found = {
                "forward": timed(lambda: forward(model, ids), device),
                "forward_backward": timed(
                    lambda: forward_backward(model, ids), device)}
            model.zero_grad(set_to_none=True)
            cache = prefill(model, prompt, steps)
            found["decode_per_token"] = timed(
                lambda: decode(model, ids[:, -1:], steps, cache),
                device) / steps
            for task, value in found.items():
                if repeat:
                    times[task][name].append(value)
    return {task: {name: min(values)
                   for name, values in by_name.items()}
            for task, by_name in times.items()}


def main():
    parser = common.parser(__doc__)
    parser.add_argument("-B", "--batch", type=int, default=2)
    parser.add_argument("-T", "--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=16,
                        help="tokens to decode; the rest is the prompt")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if not 0 < args.steps < args.length:
        parser.error("--steps must be at least 1 and below --length")

    device = torch.device(args.device)
    config = GPT2Config.from_preset(args.preset)
    models = build(config, DTYPES[args.dtype], device)
    times = measure(models, args, config, device)
    ratios = {task: {
        "theirs_sdpa / ours_fused": t["theirs_sdpa"] / t["ours_fused"],
        "theirs_eager / ours_explicit":
            t["theirs_eager"] / t["ours_explicit"],
        "ours_explicit / ours_fused": t["ours_explicit"] / t["ours_fused"],
    } for task, t in times.items()}
    common.report(args, device, milliseconds=times, ratios=ratios)


if __name__ == "__main__":
    main()
