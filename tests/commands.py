"""What the tests of `python -m gpt2` share."""
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from gpt2 import GPT2, PRESETS, GPT2Config, Tokenizer
from gpt2.command_line import options
from gpt2.command_line.app import main
from gpt2.pretrained import save_pretrained, save_tokenizer

ROOT = Path(__file__).resolve().parent.parent
NANO = ROOT / "checkpoints" / "nano"
TASK_DATA = {"lambada": "passages.jsonl", "wikitext2": "wiki.raw"}
TINY = dict(n_positions=64, n_embd=32, n_layer=2, n_head=4)


def build(folder, *, dtype=torch.float32, scale=1.0, **changes):
    """A random model that has something to say, saved with a tokenizer."""
    torch.manual_seed(0)
    config = GPT2Config.from_preset("nano", **{**TINY, **changes})
    model = GPT2(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1 * scale)
    save_pretrained(model.to(dtype), folder)
    save_tokenizer(Tokenizer.load(NANO), folder)
    return folder


def write_corpus(folder, files=60):
    """Python sources, some of which are held out."""
    folder.mkdir()
    for n in range(files):
        (folder / f"m{n}.py").write_text("".join(
            f"def add_{n}_{i}(first, second):\n    total = first * {n + i}\n"
            f"    for item in range({i}):\n        total += item * second\n"
            f"    return total\n\n\n" for i in range(8)), "utf-8")
    return folder


def runner(monkeypatch, capsys):
    """Calls main: (exit code, standard output, standard error)."""
    def call(*arguments, stdin=b"", terminal=False):
        source = io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii")
        source.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", source)
        code = main([str(word) for word in arguments])
        return code, *capsys.readouterr()
    return call


def start(*arguments, environment={}, **options):
    """A process with pipes, and Python's buffers as users have them."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpt2", *map(str, arguments)],
        env=os.environ | {"PYTHONUNBUFFERED": "", **environment},
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
           "stderr": subprocess.PIPE, **options})


def process(*arguments, **options):
    """Exit code, standard output, standard error of a process that ends."""
    with start(*arguments, **options) as running:
        out, err = running.communicate(timeout=120)
    return running.returncode, (out or b"").decode(), err.decode()


def is_one_line(text):
    return text.startswith("gpt2: ") and text.count("\n") == 1 and (
        text.endswith("\n") and len(text) > 20 and "Traceback" not in text)


def make_small(monkeypatch, folder, model):
    """Let examples run here, in a moment; this model is the book's own."""
    monkeypatch.setattr(options, "NANO", model)
    monkeypatch.setitem(PRESETS, "nano", {**PRESETS["nano"], **TINY})
    monkeypatch.chdir(folder)
    write_corpus(folder / "corpus")
    (folder / "passages.jsonl").write_text(
        '{"text": "the robot said that it was a robot"}\n' * 3, "utf-8")
    (folder / "wiki.raw").write_text(
        " \n = Robot = \n \n The robot said that it was a robot . \n",
        "utf-8")


def smaller(words, model):
    """An example's words after `python -m gpt2`, with less work to do."""
    def give(option, value):
        words[words.index(option) + 1] = value

    for option in {"--model", "--init-from"} & {*words}:
        give(option, model)
    if "--data" in words and "--task" not in words and not Path(
            words[words.index("--data") + 1]).exists():
        give("--data", "corpus")
    if "--minutes" in words:
        give("--minutes", "0.002")
    if words[0] == "sample":
        words += ["--max-new-tokens", "5"]
    elif "--task" in words:
        if "--data" not in words:
            words += ["--data", TASK_DATA[words[words.index("--task") + 1]]]
        if "--stride" in words:
            give("--stride", "16")
    elif words[0] == "evaluate":
        words += ["--headers", "3", "--windows", "2", "--workers", "1"]
    elif words[0] == "train" and "--resume" not in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        if not {"--minutes", "--max-steps"} & {*words}:
            words += ["--max-steps", "2"]
        words += ["--batch-size", "2", "--length", "16", "--workers", "1"]
    return words


def run_example(run, line, model):
    """What a shell would do with this line, the model replaced."""
    stdin = b""
    words = shlex.split(line)
    if words[0] == "echo":
        stdin, words = words[1].encode() + b"\n", words[3:]
    if "<" in words:
        words, path = words[:-2], ROOT / words[-1]
        stdin = path.read_bytes() if path.is_file() else b""
    assert words[:3] == ["python", "-m", "gpt2"], line
    return run(*smaller(words[3:], model), stdin=stdin)
