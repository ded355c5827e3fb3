"""Encoding speed beside tokenizers, transformers and tiktoken, one thread.

    python benchmarks/tokenizer.py
    python benchmarks/tokenizer.py --vocabulary ../shared/data/gpt2-bpe
    python benchmarks/tokenizer.py --json speed.json

The text is the standard library's source, one file a call, as a data loader
would do it. All give the same ids, or the program stops. The rounds take
turns, and the best round of each counts, so that a busy moment of the machine
hits all alike.
"""
import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1",
                  HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
ROOT = Path(__file__).resolve().parents[1]
# The folder of this file holds a `tokenizer.py`; nobody should import it.
sys.path[:1] = [str(ROOT), str(ROOT / "tools")]

from freeze_tokenizer import read, sources  # noqa: E402

from gpt2.tokenizer import SPLIT_PATTERN, Tokenizer  # noqa: E402


def contestants(folder):
    """name -> a function that gives an encoder, fresh where it matters."""
    import tiktoken
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers
    from transformers import GPT2Tokenizer

    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    rust = Rust(models.BPE.from_file(*files))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hugging_face = GPT2Tokenizer.from_pretrained(str(folder))
    warm = Tokenizer.load(folder)
    last = len(warm) - 1
    third = tiktoken.Encoding(
        "same", pat_str=SPLIT_PATTERN, special_tokens={"<|endoftext|>": last},
        mergeable_ranks={warm.token_bytes(i): i for i in range(last)})
    return {
        "ours, first time": lambda: Tokenizer.load(folder).encode,
        "ours, again": lambda: warm.encode,
        "tokenizers": lambda: lambda text: rust.encode(text).ids,
        "transformers": lambda: lambda text: hugging_face(text).input_ids,
        "tiktoken": lambda: third.encode_ordinary,
    }


def measure(texts, folder, rounds):
    """name -> best seconds for all texts, and the number of tokens."""
    seconds, expected, taking_part = {}, None, contestants(folder)
    for _ in range(rounds):
        for name, fresh in taking_part.items():
            encode = fresh()
            start = time.perf_counter()
            ids = [encode(text) for text in texts]
            taken = time.perf_counter() - start
            seconds[name] = min(taken, seconds.get(name, taken))
            expected = expected or ids
            if ids != expected:
                sys.exit(f"{name} gives other ids")
    return seconds, sum(map(len, expected))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=Path, metavar="FOLDER",
                        default=ROOT / "checkpoints" / "nano")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, help="only so many files")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    texts = list(read(sources()))[:options.files]
    size = sum(len(text.encode("utf-8")) for text in texts)
    seconds, tokens = measure(texts, options.vocabulary, options.rounds)
    speed = {name: size / 1e6 / taken for name, taken in seconds.items()}
    print(f"{size / 1e6:.1f} MB in {len(texts)} files, {size / tokens:.2f}"
          f" bytes per token; best of {options.rounds} rounds, one thread")
    for name, rate in speed.items():
        print(f"{name:17} {rate:5.1f} MB/s  {rate / speed['tokenizers']:5.2f}"
              " × tokenizers")
    if options.json:
        versions = {name: importlib.metadata.version(name) for name in (
            "regex", "tokenizers", "transformers", "tiktoken")}
        options.json.write_text(json.dumps({
            "python": platform.python_version(), "machine": platform.machine(),
            "versions": versions, "bytes": size, "tokens": tokens,
            "megabytes_per_second": speed}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
