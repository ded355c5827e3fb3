"""Our scorer beside EleutherAI's lm-eval, on the same model and documents.

    python benchmarks/zero_shot.py                     a minute
    python benchmarks/zero_shot.py --data lambada_test.jsonl --documents 500

A model of random weights with the book's tokenizer is saved, and both load
it: ours with load_pretrained, theirs as lm-eval's Hugging Face class (`pip
install "gpt2-book[lm-eval]"`). Both are given the same pairs of context and
last word, from a file in LAMBADA's form or from the standard library, and say
log p of the word and whether it was the likeliest. The sides take turns. Time
is the median of all repeats and includes tokenizing.

`differ` is the largest difference of the sums of log p, and must stay below
1e-4; every "likeliest" must agree. A ratio ours / theirs above 1 says that
ours is faster. JSON goes to stdout; exit code 1 where ours is slower.
"""
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import common                        # first: it says where gpt2 is


def stdlib_documents(count):
    """Passages of about 80 words from the standard library's sources."""
    from gpt2.data import documents
    found = []
    for document in documents("stdlib"):
        words = document.text.split(" ")
        for start in range(0, len(words) - 120, 500):
            found.append((" ".join(words[start:start + 80]).strip(),
                          " " + (words[start + 80].strip() or "x")))
            if len(found) == count:
                return found
    return found


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--data")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16,
                        help="of lm-eval, in documents")
    parser.add_argument("--batch-tokens", type=int, default=8192,
                        help="of ours")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from gpt2 import GPT2Config, load_tokenizer
    from gpt2.checks import reference_model
    from gpt2.files.task_files import read_lambada
    from gpt2.pretrained import load_pretrained, save_tokenizer
    from gpt2.zero_shot import make_request, score
    logging.disable(logging.WARNING)
    nano = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"
    config = GPT2Config.from_preset(args.preset, vocab_size=4096,
                                    bos_token_id=4095, eos_token_id=4095)
    pairs = (read_lambada(args.data)[:args.documents] if args.data
             else stdlib_documents(args.documents))
    with tempfile.TemporaryDirectory() as folder:
        import torch
        reference_model(config, dtype=torch.float32,
                        sharpen=2.0).save_pretrained(folder)
        save_tokenizer(load_tokenizer(nano), folder,
                       model_max_length=config.n_positions)
        model = load_pretrained(folder, device=args.device)
        tokenizer = load_tokenizer(folder)
        theirs = HFLM(pretrained=folder, device=args.device, dtype="float32",
                      batch_size=args.batch_size)

    def ours():
        found = score(model, [make_request(
            tokenizer, *pair, config.n_positions) for pair in pairs],
            batch_tokens=args.batch_tokens)
        return [(each.total, bool(each.likeliest.all())) for each in found]

    def harness():
        return theirs.loglikelihood(
            [Instance("loglikelihood", {}, pair, 0) for pair in pairs],
            disable_tqdm=True)

    sides, seconds, results = {"ours": ours, "lm-eval": harness}, {}, {}
    for repeat in range(args.repeats + 1):           # the first one warms up
        for name in (list(sides), list(sides)[::-1])[repeat % 2]:
            began = time.perf_counter()
            results[name] = sides[name]()
            if repeat:
                seconds.setdefault(name, []).append(
                    time.perf_counter() - began)
    both = list(zip(results["ours"], results["lm-eval"]))
    differ = max(abs(a[0] - b[0]) for a, b in both)
    assert differ < 1e-4, f"log p differs by {differ}"
    assert all(a[1] == b[1] for a, b in both), "another likeliest token"
    speed = {name: len(pairs) / statistics.median(each)
             for name, each in seconds.items()}
    common.report(args, args.device, documents=len(pairs), differ=differ,
                  documents_per_second=speed,
                  ratios={"ours / theirs": speed["ours"] / speed["lm-eval"]})
    return 0 if speed["ours"] >= speed["lm-eval"] else 1


if __name__ == "__main__":
    sys.exit(main())
