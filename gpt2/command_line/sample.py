"""`python -m gpt2 sample`: continue a prompt."""
import secrets
import sys
from collections.abc import Iterator
from enum import Enum

import torch

from gpt2.command_line.models import load_model
from gpt2.command_line.options import (Device, Model, examples, flag, given,
                                       option, own_model, real, refuse,
                                       seeded, whole)
from gpt2.generation import generate_texts, stream_text
from gpt2.pretrained import FLOATS
from gpt2.training import find_device

EXAMPLES = examples(
    'python -m gpt2 sample --prompt "def " --seed 1',
    'python -m gpt2 sample --model gpt2 --prompt "The dog" --greedy --stream',
    'echo "The dog" | python -m gpt2 sample --model gpt2 --num-samples 3',
    "python -m gpt2 sample --top-k 0 --top-p 0.9 < /dev/null")
Dtype = Enum("Dtype", {name: name for name in (
    str(dtype).removeprefix("torch.") for dtype in FLOATS)}, type=str)

Prompt = option(
    str | None, "What to continue. With -, or in a pipe without --prompt:"
    " standard input, less the newline at its end. If it is empty, the model"
    " starts from nothing. Line ends become those of the training text.",
    metavar="TEXT|-")
MaxNewTokens = whole(
    "Tokens to add at most. With the prompt no more than the model has"
    " positions: it learned a vector for each of them, and none for those"
    " beyond.", min=1)
Temperature = real("Above 0; lower: likelier tokens.")
TopK = whole("Draw from the N likeliest tokens; 0: from all.", min=0)
TopP = real("Draw from the likeliest tokens that together reach this"
            " probability.")
Penalty = real("Above 1: fewer of the tokens that were there.")
Greedy = flag("Take the likeliest token, draw nothing.", "--greedy")
NumSamples = whole("How many texts, drawn as one batch.", min=1,
                   max=2 ** 31 - 1)
Seed = seeded("The same one gives the same text.")
Stream = flag("Print the text as it comes, one sample after the other.",
              "--stream")
Truncate = flag("If the prompt leaves too few positions, forget its"
                " beginning.", "--truncate")
WeightType = option(Dtype | None, "By default that of the file.")


def sample(
        model: Model = None, prompt: Prompt = None,
        max_new_tokens: MaxNewTokens = 100, temperature: Temperature = 0.8,
        top_k: TopK = 40, top_p: TopP = 1.0,
        repetition_penalty: Penalty = 1.0, greedy: Greedy = False,
        num_samples: NumSamples = 1, seed: Seed = None,
        stream: Stream = False, truncate: Truncate = False,
        device: Device = None, dtype: WeightType = None) -> Iterator[str]:
    """Continue a prompt. Prints the prompt and what follows it."""
    refuse(greedy and num_samples > 1, "--num-samples",
           "with --greedy all are the same; drop one of the two.")
    network, tokenizer = load_model(
        own_model() if model is None else model, device=find_device(device),
        dtype=dtype and getattr(torch, dtype.value))
    text = given(prompt) or ""
    if prompt in (None, "-"):
        text = text.removesuffix("\n")
    chosen = secrets.randbelow(2**32) if seed is None else seed
    what = network, tokenizer, text, max_new_tokens
    how = dict(do_sample=not greedy, temperature=temperature, top_k=top_k,
               top_p=top_p, repetition_penalty=repetition_penalty,
               truncate=truncate, generator=torch.Generator(
                   network.wte.weight.device).manual_seed(chosen))
    drawn = (stream_text(*what, **how) for _ in range(num_samples)) \
        if stream else zip(generate_texts(*what, num_samples, **how))
    for number, pieces in enumerate(map(iter, drawn), 1):
        first = next(pieces, "")       # what is wrong is said before any text
        if num_samples > 1:
            yield f"===== {number} of {num_samples} =====\n"
        yield text + first
        yield from pieces
        yield "\n"
    if seed is None and not greedy:
        print(f"--seed {chosen} writes this again", file=sys.stderr)
