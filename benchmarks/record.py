"""Record full-size runs on one device, part by part (chapter 19 reads them).

    runs/record.sh env        what the device is, and what it reaches
    runs/record.sh ladder     chapter 17's speed-ups on 124M, one after another
    runs/record.sh sizes      training speed and memory of the four sizes
    runs/record.sh decode     tokens/s beside transformers' generate
    runs/record.sh train      124M on the Python sources installed here, in
                              the background; again: how far it is
    runs/record.sh samples    what the trained model writes and reaches

A part stops after 9 minutes (train runs on). Each result is written as soon
as it is there, as one line, and not measured again: the same command goes on
with what is missing, and two records merge by joining their files. The
commands themselves are kept in commands.txt.

On a CPU one thread does all but the training, and everything is shorter: 3
updates of 1 x 1,024 tokens, 8 new tokens, training by updates of 4 x 1,024.
--tiny shrinks the models: a rehearsal.
"""
import argparse
import datetime
import functools
import gc
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import common                        # first: it says where gpt2 is
import psutil
import torch
from ladder import ladder, measure_rung

from gpt2.checks import reference_config
from gpt2.command_line.runs import read_rows, read_run
from gpt2.config import GPT2Config
from gpt2.counting import count_parameters, flops_per_token
from gpt2.data import SPLITS, Tokens
from gpt2.files.token_files import read_manifest
from gpt2.generation import generate, generate_texts
from gpt2.kv_cache import cache_shape
from gpt2.model import GPT2
from gpt2.pretrained import load_pair
from gpt2.scaling import (FastEngine, Speed, can_compile, clock_for,
                          find_micro_batch, measured_bandwidth)
from gpt2.training import (PRECISIONS, TrainingConfig, accumulate,
                           find_device, measured_peak)

ROOT = Path(__file__).resolve().parent.parent
SIZES = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
# Dense bfloat16 products of data sheets, in FLOP/s.
DATA_SHEET = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
PROMPTS = ["", "def read_file(path):", "class Robot:\n", "import ",
           "A robot must obey the orders given it"]
TEMPERATURES = [0.5, 0.8, 1.0]
LIMIT = 9 * 60                       # seconds that a part may take


class Scale(NamedTuple):
    """How much is measured."""
    rung_batch: int                  # sequences of the ladder's micro-batch
    batch: int                       # sequences of an update, for sizes
    length: int
    updates: int                     # that are timed; one more warms up
    batches: tuple                   # texts at once, for decode
    prompt: int
    new: int
    repeats: int
    written: int                     # tokens of a sample
    train: tuple                     # words of the command
    evaluate: tuple


SCALES = {
    "cuda": Scale(16, 64, 1024, 24, (1, 8, 64), 32, 128, 3, 200,
                  ("--preset", "gpt2", "--precision", "bfloat16", "--tf32",
                   "--compile", "--micro-batch", "auto", "--eval-every", "50",
                   "--sample-every", "25", "--save-every", "200"),
                  ("--windows", "256", "--headers", "500")),
    "cpu": Scale(1, 1, 1024, 2, (1, 8, 64), 8, 8, 1, 40,
                 ("--preset", "gpt2", "--batch-size", "4", "--micro-batch",
                  "4", "--eval-every", "1000", "--sample-every", "10"),
                 ("--windows", "64", "--headers", "40")),
    "tiny": Scale(2, 4, 32, 2, (1, 2), 4, 4, 1, 4,
                  ("--preset", "nano", "--max-steps", "4", "--batch-size",
                   "2", "--length", "16", "--sample-every", "1"),
                  ("--windows", "1", "--headers", "2")),
}


def config_of(name, tiny):
    """A published size; the rehearsal's is so in name only."""
    small = dict(vocab_size=512, n_positions=64, n_embd=32, n_layer=2,
                 n_head=2, bos_token_id=511) if tiny else {}
    return GPT2Config.from_preset(name, eos_token_id=None, **small)


def free():
    """Give back what the last measurement held."""
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def shown(path):
    """A path for commands and files: inside the checkout without its place."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def append(path, row):
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(common.rounded(row)) + "\n")


def fill(path, todo, deadline):
    """Measure what the file lacks of {name: function that gives a row}.

    What does not fit into memory becomes a row that says so. Nothing new is
    begun that might not end before the deadline.
    """
    done, longest = {row["name"] for row in read_rows(path)}, 0.0
    for number, (name, measure) in enumerate(todo.items(), 1):
        if name in done:
            continue
        if time.monotonic() + 1.5 * longest > deadline:
            print(f"{len(todo) - number + 1} of {len(todo)} are left: run the"
                  " same command again")
            return
        began = time.monotonic()
        try:
            row = measure()
        except torch.OutOfMemoryError:
            row = {"error": "out of memory"}
        except ValueError as error:      # find_micro_batch: too little
            row = {"error": str(error)}
        free()
        took = time.monotonic() - began
        longest = max(longest, took)
        append(path, {"name": name, **row, "took": took})
        print(f"{path.name}: {name}, {took:.0f} s", flush=True)
    print(f"{path.name}: all {len(todo)} are there")


# --- the parts ---------------------------------------------------------------

def record_env(args, scale):
    """Device, versions, and the two numbers of the roofline.

    Those are the best that was seen: called again, the better ones stay.
    """
    path = args.out / "env.json"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    found = common.machine(args.device)
    cuda = torch.device(args.device).type == "cuda"
    precision = "bfloat16" if cuda else "float32"
    sheet = [peak for name, peak in DATA_SHEET.items()
             if name in found["device"]]
    row = {**found, "kind": torch.device(args.device).type,
           "rehearsal": args.tiny, "precision": precision,
           "peak": measured_peak(args.device, precision,
                                 seconds=0.3 if args.tiny else 3),
           "data_sheet_peak": sheet[0] if cuda and sheet else None,
           "bandwidth": measured_bandwidth(args.device,
                                           10 if args.tiny else 200),
           "memory": (torch.cuda.get_device_properties(args.device)
                      .total_memory if cuda else
                      psutil.virtual_memory().total),
           "compiles": can_compile(args.device)}
    for best in "peak", "bandwidth":
        row[best] = max(row[best], before.get(best, 0.0))
    path.write_text(json.dumps(common.rounded(row), indent=1) + "\n",
                    "utf-8")
    print(json.dumps(common.rounded(row), indent=1))


def record_ladder(args, scale):
    """Every rung on the same weights and tokens, losses beside speeds."""
    config = config_of("gpt2", args.tiny)
    torch.manual_seed(0)
    model = GPT2(config)
    ids = torch.randint(config.vocab_size, (scale.rung_batch,
                                            scale.length + 1))
    numbers = TrainingConfig(batch_size=len(ids), micro_batch=len(ids),
                             length=scale.length)
    rungs = ladder(args.device, loss_rows=min(1024, ids[:, 1:].numel() // 4))
    fill(args.out / "ladder.jsonl", {
        rung.name: functools.partial(measure_rung, rung, model, numbers, ids,
                                     args.device, scale.updates // 2 + 1)
        for rung in rungs}, args.deadline)


def measure_size(name, args, scale):
    """Updates of a whole batch, with all that makes them fast."""
    cuda = torch.device(args.device).type == "cuda"
    config, clock = config_of(name, args.tiny), clock_for(args.device)
    speed = Speed(compile="inductor" if cuda and can_compile(args.device)
                  else "", tf32=cuda)
    numbers = TrainingConfig(
        batch_size=scale.batch, length=scale.length,
        precision="bfloat16" if cuda else "float32")
    engine = FastEngine(args.device, speed)
    with torch.device(args.device):
        torch.manual_seed(0)
        model = GPT2(config)
    micro = find_micro_batch(engine, model, numbers)
    free()
    engine.prepare(model, TrainingConfig(**{**vars(numbers),
                                            "micro_batch": micro}))
    ids = torch.randint(config.vocab_size, (scale.batch, scale.length + 1))
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for _ in range(1 + scale.updates):
        began = clock()
        losses.append(float(accumulate(engine, ids)))
        float(engine.clip())
        engine.update(1e-4)
        seconds.append(clock() - began)
    best = min(seconds[1:])
    return {"micro_batch": micro, "batch": scale.batch,
            "length": scale.length, "seconds": seconds, "losses": losses,
            "parameters": sum(count_parameters(config).values()),
            "flops_per_token": 3 * flops_per_token(config, scale.length),
            "tokens_per_second": ids[:, 1:].numel() / best,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None}


def record_sizes(args, scale):
    fill(args.out / "sizes.jsonl", {
        name: functools.partial(measure_size, name, args, scale)
        for name in args.sizes}, args.deadline)


@functools.lru_cache(maxsize=1)
def pair(name, device, tiny):
    """Ours and transformers', with the very same weights in memory."""
    from transformers import GPT2LMHeadModel
    config = config_of(name, tiny)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    with torch.device(device):
        torch.manual_seed(0)
        ours = GPT2(config).to(dtype).eval()
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(reference_config(config, "sdpa")).eval()
    weights = {f"transformer.{key}": value
               for key, value in ours.state_dict().items()}
    theirs.load_state_dict({**weights, "lm_head.weight":
                            weights["transformer.wte.weight"]}, assign=True)
    theirs.tie_weights()
    return ours, theirs


def writers(ours, theirs, ids, new):
    """{method: a function that returns the prompt and `new` tokens}"""
    usual = dict(max_new_tokens=new, do_sample=False, eos_token_id=None,
                 attention_mask=torch.ones_like(ids))
    found = {"ours": lambda: generate(ours, ids, new)}
    if ids.device.type == "cuda":
        found["ours, compiled"] = lambda: generate(ours, ids, new,
                                                   compile=True)
    return found | {
        "transformers, dynamic": lambda: theirs.generate(ids, **usual),
        "transformers, static": lambda: theirs.generate(
            ids, cache_implementation="static", **usual)}


def measure_decode(name, batch, method, args, scale):
    """Tokens/s of greedy decoding, and the bytes that a step must read."""
    ours, theirs = pair(name, args.device, args.tiny)
    config, weight = ours.config, ours.wte.weight
    torch.manual_seed(1)
    ids = torch.randint(config.vocab_size, (batch, scale.prompt)).to(
        args.device)
    cuda, clock = ids.device.type == "cuda", clock_for(args.device)
    call = writers(ours, theirs, ids, scale.new)[method]
    # A GPU's first call compiles; a CPU's need only be warm.
    (call if cuda else writers(ours, theirs, ids, 2)[method])()
    seconds = []
    for _ in range(scale.repeats):
        began = clock()
        tokens = call()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    usual = generate(ours, ids, scale.new) if method != "ours" else tokens
    parts = count_parameters(config)
    read = sum(parts.values()) - parts["wpe"]    # wte: by the head
    kept = 2 * batch * cache_numbers(config) * (scale.prompt + scale.new / 2)
    return {"size": name, "batch": batch, "method": method,
            "prompt": scale.prompt, "new": scale.new,
            "tokens_per_second": batch * scale.new / min(seconds),
            "same_tokens": float((tokens == usual).float().mean()),
            "bytes_per_step": (read + kept) * weight.element_size()}


def cache_numbers(config):
    """Numbers of the keys of one position, in all layers."""
    return torch.Size(cache_shape(config, 1, 1)).numel()


def record_decode(args, scale):
    methods = writers(None, None, torch.empty(0, device=args.device), 0)
    fill(args.out / "decode.jsonl", {
        f"{name}, batch {batch}, {method}": functools.partial(
            measure_decode, name, batch, method, args, scale)
        for name in args.sizes for batch in scale.batches
        for method in methods}, args.deadline)


def faster_precision(device):
    """In which this device multiplies faster: few CPUs know bfloat16."""
    return max(PRECISIONS, key=lambda name: measured_peak(device, name))


def record_train(args, scale):
    """Start the training in the background, or say how far it is."""
    log = args.run / "record.log"
    if log.exists() and not args.again:
        print(*log.read_text("utf-8").splitlines()[-5:], sep="\n")
        return
    args.run.mkdir(parents=True, exist_ok=True)
    more = (["--minutes", f"{args.minutes:g}"]
            if "--max-steps" not in scale.train else [])
    if "--precision" not in scale.train:
        more += ["--precision", faster_precision(args.device)]
    words = [sys.executable, "-m", "gpt2", "train", "--data", args.data,
             "--out", shown(args.run), "--device", args.device, *scale.train,
             *more]
    if args.again:
        words = [*words[:4], "--resume", "--out", shown(args.run), "--device",
                 args.device, *(word for word in scale.train
                                if word in ("--tf32", "--compile"))]
    with open(log, "a") as file:
        training = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file,
            stderr=file, start_new_session=True)
    print(f"process {training.pid}: {shlex.join(words[1:])}\n{shown(log)} tells how"
          " far it is; runs/record.sh train prints its end")
    if args.wait:
        sys.exit(training.wait())


def frequencies_alone(folder, tokenizer):
    """Nats per held-out token of knowing only how frequent each token is.

    Counted in the training text; one is added to each count.
    """
    training, held_out = (Tokens(folder, split, tokenizer)
                          for split in SPLITS)
    counts = torch.ones(len(tokenizer), dtype=torch.float64)
    for ids in pieces(training):
        counts += torch.bincount(ids, minlength=len(counts))
    nats = counts.sum().log() - counts.log()                 # (V,)
    return float(sum(nats[ids].sum() for ids in pieces(held_out))
                 / len(held_out))


def pieces(tokens, size=2 ** 20):
    """All tokens, so many at a time."""
    for start in range(0, len(tokens), size):
        yield tokens.window(start, min(size, len(tokens) - start))


def record_samples(args, scale):
    """Texts, held-out bits per byte, parse rate; the log of the training."""
    if not (args.run / "model").is_dir():
        sys.exit(f"{args.run} holds no finished model; runs/record.sh train"
                 " makes it.")
    model, tokenizer = load_pair(args.run / "model", device=args.device)
    rows = []
    for prompt in PROMPTS:
        for temperature in TEMPERATURES:
            generator = torch.Generator(args.device).manual_seed(0)
            text, = generate_texts(
                model, tokenizer, prompt, scale.written, do_sample=True,
                temperature=temperature, top_k=40, generator=generator)
            rows.append({"prompt": prompt, "temperature": temperature,
                         "text": text})
    written = args.out / "samples.jsonl"
    written.unlink(missing_ok=True)
    for row in rows:
        append(written, row)
    shutil.copy(args.run / "metrics.jsonl", args.out / "metrics.jsonl")
    found, manifest = read_run(args.run), read_manifest(args.run / "data")
    (args.out / "run.json").write_text(json.dumps({
        "training": vars(found["training"]), "sessions": found["sessions"],
        "vocabulary": len(tokenizer),
        "frequencies_alone": frequencies_alone(args.run / "data", tokenizer),
        **{key: manifest[key] for key in ("source", "documents", "bytes",
                                          "tokens")}}, indent=1) + "\n")
    subprocess.run(
        [sys.executable, "-m", "gpt2", "evaluate", "--device", args.device,
         "--model", shown(args.run / "model"), "--data",
         shown(args.run / "data"), "--json", str(args.out / "evaluation.json"),
         *scale.evaluate], check=True, cwd=ROOT)


PARTS = {"env": record_env, "ladder": record_ladder, "sizes": record_sizes,
         "decode": record_decode, "train": record_train,
         "samples": record_samples}


# --- the command -------------------------------------------------------------

def default_name(device):
    """runs/DEVICE-DATE; an earlier record of this device goes on."""
    words = common.machine(device)["device"] if "cuda" in device else "cpu"
    short = re.search(r"[A-Z]+\d+\w*", words)
    name = (short[0] if short else words).lower().replace(" ", "-")
    return ROOT / "runs" / f"{name}-{datetime.date.today()}"


def commit():
    """The checkout's commit, and whether its code is another by now; of a
    copy without git, what GPT2_BOOK_COMMIT says."""
    def git(*words):
        try:
            return subprocess.run(["git", *words], cwd=ROOT, text=True,
                                  capture_output=True).stdout.strip()
        except OSError:                      # no such program
            return ""

    changed = git("status", "--porcelain", "gpt2", "benchmarks")
    return (git("rev-parse", "--short=12", "HEAD")
            or os.environ.get("GPT2_BOOK_COMMIT", "unknown")) + (
        ", with changes" if changed else "")


def note(args, words):
    """Keep the command with the record; not one that only asks."""
    if args.part == "train" and (args.run / "record.log").exists() and (
            not args.again):
        return
    with open(args.out / "commands.txt", "a", encoding="utf-8") as file:
        now = datetime.datetime.now(datetime.timezone.utc)
        file.write(f"{now:%Y-%m-%d %H:%M} UTC, commit {commit()}:"
                   f" runs/record.sh {shlex.join(words)}\n")


def parse(words):
    parser = argparse.ArgumentParser(
        prog="runs/record.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda" if
                        torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="the record's folder;"
                        " default runs/DEVICE-DATE")
    parser.add_argument("--run", type=Path, help="the training's own folder,"
                        " with its checkpoints; default OUT/run")
    parser.add_argument("--sizes", type=lambda x: x.split(","),
                        default=SIZES, help="gpt2,gpt2-xl: only these")
    parser.add_argument("--data", default="site-packages")
    parser.add_argument("--minutes", type=float, default=14,
                        help="of training")
    parser.add_argument("--wait", action="store_true",
                        help="train: until it has ended")
    parser.add_argument("--again", action="store_true",
                        help="train: resume a training that has stopped")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal")
    args = parser.parse_args(words)
    try:
        find_device(args.device)
    except ValueError as error:
        parser.error(str(error))
    for name in args.sizes:
        if name not in SIZES:
            parser.error(f"no size {name!r}; there are {', '.join(SIZES)}")
    args.out = (args.out or default_name(args.device)).resolve()
    args.run = (args.run or args.out / "run").resolve()
    args.deadline = time.monotonic() + LIMIT - 30
    return args


def main(words=None):
    args = parse(words)
    args.out.mkdir(parents=True, exist_ok=True)
    env = args.out / "env.json"
    if env.exists() and json.loads(
            env.read_text("utf-8"))["rehearsal"] != args.tiny:
        kind = "a real record" if args.tiny else "a rehearsal"
        sys.exit(f"{args.out} is {kind}; choose another --out.")
    if args.device == "cpu":
        torch.set_num_threads(1)     # all parts alike; see clock_for
    note(args, sys.argv[1:] if words is None else words)
    kind = "tiny" if args.tiny else torch.device(args.device).type
    PARTS[args.part](args, SCALES.get(kind, SCALES["cuda"]))


if __name__ == "__main__":
    if hasattr(signal, "alarm") and "--wait" not in sys.argv:
        signal.alarm(LIMIT)          # what is measured is written already
    main()
