"""Put a finished run's model into checkpoints/nano, with its record.

    python -m gpt2 train --preset nano --data stdlib --out runs/nano ...
    python tools/ship_model.py runs/nano

Writes the weights in bfloat16 and their config, metrics.jsonl (one training
row in ten, every evaluation and sample), evaluation.json (what
`python -m gpt2 evaluate` measures, a few minutes) and RUN.md. The tokenizer
that lies there must be the run's own; it is not touched.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.common import processor  # noqa: E402
from gpt2.command_line.plots import plot_losses  # noqa: E402
from gpt2.command_line.runs import read_rows, read_run  # noqa: E402
from gpt2.data import tokenizer_fingerprint  # noqa: E402
from gpt2.files.token_files import read_manifest  # noqa: E402
from gpt2.files.whole import written_whole  # noqa: E402
from gpt2.pretrained import load_pretrained, save_pretrained  # noqa: E402
from gpt2.tokenizer import Tokenizer  # noqa: E402

HOME = ROOT / "checkpoints" / "nano"
WEIGHTS = ("config.json", "generation_config.json", "model.safetensors")
EVALUATE = ("evaluate", "--model", "checkpoints/nano", "--data")
THIN = 10


def ship_weights(run, home):
    """The finished weights in bfloat16; each file appears whole."""
    model = load_pretrained(run / "model").to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        for name in WEIGHTS:
            with written_whole(home / name) as beside:
                beside.write_bytes(Path(folder, name).read_bytes())
    return sum(p.numel() for p in model.parameters())


def thinned(rows):
    """Every evaluation and sample, and one training row in THIN."""
    return [row for row in rows
            if "loss" not in row or row["step"] % THIN == 0]


def ship_metrics(run, home):
    """What happened during the run; the learning curve as a picture."""
    rows = read_rows(run / "metrics.jsonl")
    with written_whole(home / "metrics.jsonl") as beside:
        beside.write_text("".join(json.dumps(row) + "\n"
                                  for row in thinned(rows)), "utf-8")
    plot_losses(home)
    return rows


def evaluate(home, source):
    """Run the command that readers would run; it writes evaluation.json."""
    subprocess.run([sys.executable, "-m", "gpt2", *EVALUATE, source,
                    "--json", str(home / "evaluation.json")],
                   check=True, cwd=ROOT)
    return json.loads((home / "evaluation.json").read_text("utf-8"))


def run_table(run, rows, parameters):
    """What was trained, how, on what, for how long."""
    record, manifest = read_run(run), read_manifest(run / "data")
    config, session = record["training"], record["sessions"][0]
    trained = [row for row in rows if "loss" in row]
    hours = sum(row["seconds"] for row in trained) / 3600
    tokens = trained[-1]["tokens"]
    facts = {
        "parameters": f"{parameters:,}, trained in {config.precision},"
                      " shipped in bfloat16",
        "corpus": f"`{manifest['source']}` of Python {session['python']}:"
                  f" {manifest['documents']['train']} files,"
                  f" {manifest['bytes']['train']:,} bytes,"
                  f" {manifest['tokens']['train']:,} tokens",
        "held out": f"{manifest['documents']['validation']} files,"
                    f" {manifest['bytes']['validation']:,} bytes,"
                    f" {manifest['tokens']['validation']:,} tokens",
        "updates": f"{config.steps:,} of {config.batch_size} × "
                   f"{config.length} tokens: {tokens:,} tokens,"
                   f" {tokens / manifest['tokens']['train']:.1f} epochs",
        "learning rate": f"{config.learning_rate}, warm-up"
                         f" {config.warmup} updates, half a cosine to"
                         f" {config.final_fraction:.0%} of it in the last"
                         f" {config.decay or config.steps - config.warmup:,}",
        "time": f"{hours:.2f} hours in updates,"
                f" {tokens / hours / 3600:,.0f} tokens/s",
        "machine": f"{processor()}, {session['threads']} threads, torch"
                   f" {session['torch']}, {platform.system()}; sessions:"
                   f" {len(record['sessions'])}",
    }
    return session["command"], facts


def result_table(found):
    """Bits per byte beside the rivals', and who writes bodies that parse."""
    lines = ["| | bits per byte | of xz's |", "|---|---|---|"]
    lines += [f"| {name} | {bits:.3f} | {found['of_xz'][name]:.2f} |"
              for name, bits in found["bits_per_byte"].items()]
    lines += ["", "| bodies by the | 20 tokens or more | parse | rate |",
              "|---|---|---|---|"]
    lines += [f"| {who} | {rate['bodies']} | {rate['parse']} |"
              f" {rate['rate']:.1%} |"
              for who, rate in found["bodies"].items()]
    return "\n".join(lines)


def curve_table(rows):
    """Training and held-out loss at each evaluation."""
    lines = ["| update | tokens | training loss | held-out loss |"
             " held-out bits per byte |", "|---|---|---|---|---|"]
    losses = {row["step"]: row for row in rows if "loss" in row}
    for row in rows:
        if "validation_loss" in row:
            near = [losses[step]["loss"] for step in
                    range(max(1, row["step"] - 49), row["step"] + 1)]
            lines.append(
                f"| {row['step']:,} | {losses[row['step']]['tokens']:,} |"
                f" {sum(near) / len(near):.3f} |"
                f" {row['validation_loss']:.3f} |"
                f" {row['validation_bits_per_byte']:.3f} |")
    return "\n".join(lines)


def samples(rows):
    """What the model wrote at some moments of the run, from nothing."""
    written = [row for row in rows if "sample" in row]
    chosen = [written[i * (len(written) - 1) // 3] for i in range(4)]
    return "\n\n".join(f"After {row['step']:,} updates:\n\n```text\n"
                       f"{row['sample'].strip()}\n```" for row in chosen)


def report(run, rows, parameters, found):
    """RUN.md."""
    command, facts = run_table(run, rows, parameters)
    table = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    config = read_run(run)["training"]
    return f"""# How this model was trained

```bash
{command}
python tools/ship_model.py {run}
```

| | |
|---|---|
{table}

## What it reaches

`python -m gpt2 {' '.join(EVALUATE)} {found['data']}`, on all
{found['held_out']:,} held-out tokens: loss {found['loss']:.3f} nats per
token, perplexity {found['perplexity']:.1f}. gzip and xz compress file by file;
the 3-gram model has read the same training files. Bodies: of
{found['bodies']['model']['headers']} held-out function headers, written at
temperature 0.8 and cut at the dedent.

{result_table(found)}

The numbers are in `evaluation.json`.

## The curves

![Training loss and held-out loss against updates.](loss.png)

Training loss is the mean of the last 50 updates; held-out loss is of
{config.eval_windows} windows. One update in {THIN} stands in `metrics.jsonl`.

{curve_table(rows)}

## Samples

Temperature 0.8, top-k 40, from an empty prompt.

{samples(rows)}
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    args = parser.parse_args()
    if not (args.run / "model").is_dir():
        sys.exit(f"{args.run} holds no finished model: it has no model/.")
    fingerprint = tokenizer_fingerprint(Tokenizer.load(HOME))
    if read_manifest(args.run / "data")["tokenizer"] != fingerprint:
        sys.exit(f"{args.run} was trained with another tokenizer than the"
                 f" one in {HOME}.")
    parameters = ship_weights(args.run, HOME)
    rows = ship_metrics(args.run, HOME)
    found = evaluate(HOME, read_run(args.run)["source"])
    with written_whole(HOME / "RUN.md") as beside:
        beside.write_text(report(args.run, rows, parameters, found), "utf-8")
    print(f"{HOME}: {found['bits_per_byte']['model']:.3f} bits per byte,"
          f" {found['of_xz']['model']:.2f} of xz's")


if __name__ == "__main__":
    main()
