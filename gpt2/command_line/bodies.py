"""Bodies of Python functions, written by a model: how many parse?

And `compare`: all that `python -m gpt2 evaluate` measures of a model.
"""
import ast
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from tqdm import tqdm

from gpt2.data import (Tokens, Trigram, compressed_bits_per_byte, texts,
                       token_sizes)
from gpt2.generation import generate, left_pad, until_end
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer
from gpt2.training import evaluate, spread


# --- headers and bodies -----------------------------------------------------
class Header(NamedTuple):
    """A function of a source file: what stands before its body."""
    context: str             # of the file, up to the end of the header's line
    indent: int              # of the def, in columns


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a Python source; None where Python finds none, or
    cannot look so deep (`- - - ... 1` ends its recursion or its memory)."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def function_headers(documents: Iterable[str]) -> Iterator[Header]:
    """Every function of Python sources; files that do not parse: none."""
    for text in documents:
        lines = text.splitlines(keepends=True)
        for node in ast.walk(parsed(text) or ast.Module([], [])):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]         # a decorator stands before a def
                end = min(part.lineno for part in (first, *getattr(
                    first, "decorator_list", []))) - 1
                if node.lineno <= end:       # the body begins on a new line
                    yield Header("".join(lines[:end]).rstrip("\r\n"),
                                 node.col_offset)


def body_of(continuation: str, indent: int) -> str:
    """What belongs to the function: up to the first dedent.

    The first line is the rest of the header's. Without a dedent the last
    line, which may be cut, is left out.
    """
    lines = continuation.splitlines(keepends=True)
    for number, line in enumerate(lines[1:], 1):
        width = len(line) - len(line.lstrip(" "))
        if line.strip() and width <= indent:
            return "".join(lines[:number])
    return "".join(lines[:-1])


def parses(body: str) -> bool:
    """Is this a function's body in Python?"""
    return parsed("async def f():" + body) is not None


def write_with(model: GPT2, tokenizer: Tokenizer, contexts: list[str],
               new: int = 160, seed: int = 0, batch_size: int = 16,
               temperature: float = 0.8) -> Iterator[str]:
    """A continuation of each context, sampled; as much context as fits."""
    room = model.config.n_positions + 1 - new
    device = model.wte.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    for at in range(0, len(contexts), batch_size):
        prompts = [[tokenizer.eos_token_id, *tokenizer.encode(c)][-room:]
                   for c in contexts[at:at + batch_size]]
        ids, mask = left_pad(prompts, tokenizer.eos_token_id)
        out = generate(model, ids.to(device), new, do_sample=True, top_k=0,
                       temperature=temperature, generator=generator,
                       vocab_size=len(tokenizer),
                       attention_mask=mask.to(device))
        for row in out[:, ids.shape[1]:].tolist():
            yield until_end(tokenizer, row, [tokenizer.eos_token_id])


def write_with_trigram(trigram: Trigram, tokenizer: Tokenizer,
                       contexts: list[str], new: int = 160, seed: int = 0,
                       temperature: float = 0.8) -> Iterator[str]:
    """The same from a 3-gram model."""
    generator = torch.Generator().manual_seed(seed)
    every = torch.arange(trigram.V)
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode(c)][-2:]
                        for c in contexts])
    u, v, out = ids[:, :1], ids[:, 1:], []
    for _ in range(new):
        p = trigram.probability(u.expand(-1, trigram.V),
                                v.expand(-1, trigram.V),
                                every.expand(len(ids), -1))
        w = torch.multinomial(p ** (1 / temperature), 1, generator=generator)
        out.append(w)
        u, v = v, w
    for row in torch.cat(out, 1).tolist():
        yield until_end(tokenizer, row, [tokenizer.eos_token_id])


def parse_rate(headers: list[Header], written: Iterable[str],
               tokenizer: Tokenizer, minimum: int = 20) -> dict:
    """Of bodies with at least `minimum` tokens: how many Python can parse."""
    bodies = [body_of(text, header.indent)
              for header, text in zip(headers, written)]
    long = [b for b in bodies if len(tokenizer.encode(b)) >= minimum]
    good = sum(map(parses, long))
    return {"headers": len(bodies), "bodies": len(long), "parse": good,
            "rate": good / max(1, len(long))}


def some_headers(documents: list[str], wanted: int) -> list[Header]:
    """So many function headers, evenly over the documents.

    They are counted first: the contexts of all would fill the memory.
    """
    count = sum(1 for _ in function_headers(documents)) if wanted else 0
    chosen = {*spread(count, wanted)}
    return [header for i, header in enumerate(function_headers(documents))
            if i in chosen] if chosen else []


def body_length(model: GPT2) -> int:
    """Tokens to write after a header: at least as many are context."""
    return min(160, model.config.n_positions // 2)


def written_bodies(model: GPT2, trigram: Trigram, tokenizer: Tokenizer,
                   headers: list[Header],
                   seed: int = 0) -> Iterator[tuple[str, dict]]:
    """(who, parse_rate) of the model, then of the 3-gram model."""
    contexts = [header.context for header in headers]
    new = body_length(model)
    for who, write, by in (("model", write_with, model),
                           ("3-gram", write_with_trigram, trigram)):
        bar = tqdm(write(by, tokenizer, contexts, new=new, seed=seed),
                   f"bodies by the {who}", len(contexts), disable=None)
        yield who, parse_rate(headers, bar, tokenizer)


# --- beside the rivals ------------------------------------------------------
TRIGRAM_TOKENS = 2 ** 26          # more would not fit into usual memory


def rivals(training: Tokens, held_out: Tokens, tokenizer: Tokenizer,
           documents: list[str]) -> tuple[Trigram, dict[str, float]]:
    """A 3-gram model of the training text; its bits per byte and those of
    the compressors on the held-out documents."""
    trigram = Trigram(training.window(
        0, min(len(training), TRIGRAM_TOKENS)), len(tokenizer))
    ids = held_out.window(0, len(held_out))
    return trigram, {
        "3-gram": trigram.bits_per_byte(ids, token_sizes(tokenizer)),
        **compressed_bits_per_byte(documents)}


def compare(model: GPT2, tokenizer: Tokenizer, training: Tokens,
            held_out: Tokens, *, windows: int = 0, headers: int = 500,
            seed: int = 0) -> Iterator[dict]:
    """Measure a model and its rivals; yield the numbers as they come.

    First the loss (see `evaluate`). Then bits_per_byte, also as parts of
    xz's. With headers: how many there are and the new_tokens after each, and
    twice bodies: {who: parse_rate}. windows: that the model reads, 0 for all.
    """
    found = evaluate(model, held_out, tokenizer, windows=windows)
    bits = {"model": found.pop("bits_per_byte")}
    yield found
    documents = texts(held_out, tokenizer)
    trigram, others = rivals(training, held_out, tokenizer, documents)
    bits |= others
    yield {"bits_per_byte": bits, "of_xz": {
        name: value / bits["xz -9e"] for name, value in bits.items()}}
    if headers:
        chosen = some_headers(documents, headers)
        yield {"headers": len(chosen), "new_tokens": body_length(model)}
        if chosen:
            for who, rate in written_bodies(model, trigram, tokenizer,
                                            chosen, seed):
                yield {"bodies": {who: rate}}
