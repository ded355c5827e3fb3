"""python -m gpt2: what it prints, its exit codes, and how it fails.

A process of its own only where the process is the point (signals, pipes,
encodings, what is imported): each costs two seconds. The rest calls `main`.
"""
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from commands import (NANO, ROOT, build, is_one_line, make_small, process,
                      run_example, runner, start)

from gpt2 import (PRESETS, GPT2Config, Tokenizer, count_parameters,
                  flops_per_token, generation, memory_bytes, training)
from gpt2.command_line import (app, evaluate, info, options, sample, tokenize,
                               train)
from gpt2.command_line.reports import amount
from gpt2.generation import generate, stream_text
from gpt2.pretrained import load_pretrained, load_tokenizer

COMMANDS = ["sample", "info", "tokenize", "train", "evaluate"]
# An installed wheel has no tokenizer of its own.
own_tokenizer = pytest.mark.skipif(
    not options.NANO.is_dir(), reason="the wheel has no checkpoints/nano")
TEXT = "def f(x):\n\treturn 'naïve 🙂 日本' # \u202e\r\n\x00 <|endoftext|>  "


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def endless(tmp_path_factory):
    """Writes for minutes if nobody stops it."""
    return build(tmp_path_factory.mktemp("endless"), n_positions=60_000,
                 n_embd=16, n_layer=1, eos_token_id=None)


@pytest.fixture
def run(monkeypatch, capsys):
    return runner(monkeypatch, capsys)


# --- sample ---------------------------------------------------------------

SETTINGS = dict(temperature=0.9, top_k=50, top_p=0.95, repetition_penalty=1.3)
AS_OPTIONS = [word for name, value in SETTINGS.items()
              for word in ("--" + name.replace("_", "-"), value)]


def directly(folder, prompt, n, count=1, **options):
    """The texts that generate() writes."""
    network, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    ids = torch.tensor([tokenizer.encode(prompt)], dtype=torch.long)
    rows = generate(network, ids, n, num_return_sequences=count, **options)
    return [prompt + tokenizer.decode(row)
            for row in rows[:, ids.shape[1]:].tolist()]


@pytest.mark.parametrize("prompt", ["def f(x):", "é 日\n\n", " a\n"])
def test_greedy_is_generate(run, model, prompt):
    (text,) = directly(model, prompt, 40)
    assert run("sample", "--model", model, "--prompt", prompt, "--greedy",
               "--max-new-tokens", 40) == (0, text + "\n", "")


def test_sampled_is_generate(run, model):
    generator = torch.Generator().manual_seed(7)
    (text,) = directly(model, "def", 40, do_sample=True, generator=generator,
                       **SETTINGS)
    assert run("sample", "--model", model, "--prompt", "def", "--seed", 7,
               "--max-new-tokens", 40, *AS_OPTIONS) == (0, text + "\n", "")


def test_defaults_are_those_of_the_help(run, model):
    """Each default is the one used, and the one that --help names."""
    words = ["sample", "--model", model, "--prompt", "x = ", "--seed", 3,
             "--truncate"]
    told = run("sample", "--help")[1]
    defaults = re.findall(r"--([\w-]+) [NX] .*?\[default: ([\d.]+)[;\]]",
                          " ".join(told.split()))
    assert dict(defaults) == {
        "max-new-tokens": "100", "temperature": "0.8", "top-k": "40",
        "top-p": "1.0", "repetition-penalty": "1.0", "num-samples": "1"}
    given = [word for name, value in defaults for word in (f"--{name}", value)]
    assert run(*words) == run(*words, *given)


@pytest.mark.parametrize("option, value", [
    ("temperature", 3), ("top-k", 2), ("top-p", 0.2),
    ("repetition-penalty", 9), ("max-new-tokens", 30), ("seed", 8)])
def test_every_setting_counts(run, model, option, value):
    words = ["sample", "--model", model, "--prompt", "x", "--seed", 7,
             "--max-new-tokens", 40, "--top-k", 100]
    assert run(*words)[1] != run(*words, f"--{option}", value)[1]


def test_several_samples_are_one_batch(run, model, monkeypatch):
    sizes = []
    monkeypatch.setattr(generation, "generate", lambda model, ids, n, **o: (
        sizes.append(o["num_return_sequences"])
        or generate(model, ids, n, **o)))
    generator = torch.Generator().manual_seed(5)
    texts = directly(model, "import", 20, 3, do_sample=True, temperature=0.8,
                     top_k=40, generator=generator)
    assert len(set(texts)) == 3
    code, out, err = run("sample", "--model", model, "--prompt", "import",
                         "--num-samples", 3, "--seed", 5,
                         "--max-new-tokens", 20)
    assert (code, err, sizes) == (0, "", [3])
    assert out == "".join(f"===== {n} of 3 =====\n{text}\n"
                          for n, text in enumerate(texts, 1))


@pytest.mark.parametrize("seed", range(4))
def test_stream_writes_the_same(run, model, seed):
    """These random models write many broken and multi-byte characters."""
    words = ["sample", "--model", model, "--prompt", "é =", "--seed", seed,
             "--max-new-tokens", 50, "--top-k", 0, "--temperature", 2]
    assert run(*words) == run(*words, "--stream")


def test_stream_of_several_goes_on_drawing(run, model):
    network, tokenizer = load_pretrained(model), load_tokenizer(model)
    generator = torch.Generator().manual_seed(5)
    texts = ["".join(stream_text(
        network, tokenizer, "class", 20, do_sample=True, temperature=0.8,
        top_k=40, generator=generator)) for _ in range(2)]
    assert texts[0] != texts[1]
    out = run("sample", "--model", model, "--prompt", "class", "--stream",
              "--num-samples", 2, "--seed", 5, "--max-new-tokens", 20)[1]
    assert out == "".join(f"===== {n} of 2 =====\nclass{text}\n"
                          for n, text in enumerate(texts, 1))


def test_stream_comes_in_pieces(model, monkeypatch):
    """Each piece is written and flushed before the next one is computed."""
    events = []

    def slowly(*arguments, **options):
        for piece in "abc":
            events.append(f"computed {piece}")
            yield piece

    class Output(io.StringIO):
        def reconfigure(self, **settings):
            pass

        def flush(self):
            events.append("shown " + self.getvalue()[-1:])

    monkeypatch.setattr(sample, "stream_text", slowly)
    monkeypatch.setattr(sys, "stdout", Output())
    assert app.main(["sample", "--model", str(model), "--prompt",
                     "x", "--stream", "--seed", "1"]) == 0
    assert events == ["computed a", "shown a", "computed b", "shown b",
                      "computed c", "shown c", "shown \n"]


@pytest.mark.parametrize("as_list", [False, True])
def test_stops_at_the_end_of_text(run, model, tmp_path, as_list):
    """At the third token, which is not printed, streamed or not."""
    network, tokenizer = load_pretrained(model), load_tokenizer(model)
    ids = torch.tensor([tokenizer.encode("def f(x):")])
    new = generate(network, ids, 20)[0, ids.shape[1]:].tolist()
    end = next(i for i, id in enumerate(new) if i > 1 and id not in new[:i])
    folder = build(tmp_path, eos_token_id=[4094, new[end]] if as_list
                   else new[end])
    words = ["sample", "--model", folder, "--prompt", "def f(x):", "--greedy",
             "--max-new-tokens", 20]
    said = "def f(x):" + tokenizer.decode(new[:end]) + "\n"
    assert run(*words) == run(*words, "--stream") == (0, said, "")


def test_without_a_seed_it_names_one(run, model):
    words = ["sample", "--model", model, "--prompt", "x", "--max-new-tokens",
             30]
    code, out, err = run(*words)
    assert code == 0 and re.fullmatch(r"--seed \d+ writes this again\n", err)
    assert run(*words, *err.split()[:2]) == (0, out, "")
    assert run(*words)[1] != out


def test_prompt_from_standard_input(run, model):
    words = ["sample", "--model", model, "--greedy", "--max-new-tokens", 5]
    wanted = run(*words, "--prompt", "é = 1")
    for stdin in "é = 1", "é = 1\n", "é = 1\r\n":
        assert run(*words, stdin=stdin.encode()) == wanted
        assert run(*words, "--prompt", "-", stdin=stdin.encode()) == wanted
    # only the last newline goes, and --prompt wins over a pipe
    assert run(*words, stdin=b"a\n\n") == run(*words, "--prompt", "a\n")
    assert run(*words, "--prompt", "é = 1", stdin=b"other") == wanted


def test_a_prompt_is_read_as_the_training_text_was(run, model):
    """Line ends of Windows and a byte order mark change no token."""
    words = ["sample", "--model", model, "--greedy", "--max-new-tokens", 5]
    wanted = run(*words, "--prompt", "if x:\n    y\n")
    other = "if x:\r\n    y\r\n"
    assert wanted[0] == 0
    assert run(*words, "--prompt", other) == wanted
    for stdin in (other + "\n", other + "\r\n", "\ufeff" + other + "\n"):
        assert run(*words, stdin=stdin.encode()) == wanted


def test_without_a_prompt_it_starts_from_nothing(run, model):
    words = ["sample", "--model", model, "--greedy", "--max-new-tokens", 9]
    tokenizer = load_tokenizer(model)
    start = torch.tensor([[tokenizer.eos_token_id]])
    rows = generate(load_pretrained(model), start, 9)
    wanted = (0, tokenizer.decode(rows[0, 1:]) + "\n", "")
    assert len(wanted[1]) > 5
    assert run(*words, stdin=b"") == wanted
    assert run(*words, terminal=True) == wanted
    assert run(*words, "--prompt", "", stdin=b"not read") == wanted
    assert run(*words, "--stream") == wanted


def test_truncate(run, model):
    prompt = "x " * 100
    words = ["sample", "--model", model, "--prompt", prompt, "--greedy"]
    for how in [], ["--stream"]:
        code, out, err = run(*words, "--max-new-tokens", 10, *how)
        assert code == 2 and out == "" and is_one_line(err)
        assert "--truncate" in err and "truncate=True" not in err
    code, out, err = run(*words, "--max-new-tokens", 10, "--truncate")
    assert (code, err) == (0, "") and out.startswith(prompt)
    assert run(*words, "--max-new-tokens", 10, "--truncate",
               "--stream")[1] == out


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_dtype_and_device(run, model, monkeypatch, name):
    seen = []
    monkeypatch.setattr(generation, "generate", lambda model, *a, **o: (
        seen.append(model.wte.weight) or generate(model, *a, **o)))
    words = ["sample", "--model", model, "--prompt", "x", "--greedy",
             "--max-new-tokens", 5]
    assert run(*words, "--device", "cpu", "--dtype", name)[0] == 0
    assert seen[0].dtype == getattr(torch, name)
    assert seen[0].device.type == "cpu"


def test_device_by_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert training.find_device() == torch.device("cpu")
    tried = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", lambda n, device: (
        tried.append(device) or torch.ones(n)))
    assert training.find_device() == torch.device("cuda:0")
    assert training.find_device("cuda:1") == torch.device("cuda:1")
    assert tried == ["cuda:0", "cuda:1"]


# --- info -----------------------------------------------------------------

def table(text):
    """What a report says, by label, and its first line."""
    first, *lines = text.splitlines()
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines)
    return first, {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@pytest.mark.parametrize("name", PRESETS)
def test_info_of_a_preset(run, tmp_path, monkeypatch, name):
    """Without the network, and also where a folder has the same name."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(info, "find_directory", None)
    code, out, err = run("info", name)
    config = GPT2Config.from_preset(name)
    first, rows = table(out)
    assert (code, err) == (0, "")
    assert first == f"{name} (built in, no file read)"
    assert rows["parameters"] == f"{sum(count_parameters(config).values()):,}"
    for part, n in count_parameters(config).items():
        assert rows[part].startswith(f"{n:,} ") if n else part not in rows
    for field in "vocab_size", "n_positions", "n_embd", "n_layer", "n_head":
        assert rows[field] == str(getattr(config, field))
    assert all(len(line) <= 79 for line in out.splitlines())


def test_info_counts_as_chapter_01(run):
    _, rows = table(run("info", "gpt2")[1])
    config = GPT2Config()
    assert rows["forward pass"] == f"{flops_per_token(config) / 1e6:.1f} MFLOP"
    assert rows["training: forward and backward"] == (
        f"{3 * flops_per_token(config) / 1e6:.1f} MFLOP")
    for part, n in memory_bytes(config).items():
        assert rows[part] == f"{n / 1e6:.1f} MB"
    assert rows["keys and values of one token"] == (
        f"{2 * 12 * 768 * 4 / 1e3:.1f} kB")
    assert rows["keys and values of 1,024 tokens"] == (
        f"{2 * 12 * 768 * 4 * 1024 / 1e6:.1f} MB")


@pytest.mark.parametrize("dtype, width", [
    (torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)])
def test_info_of_a_directory(run, tmp_path, dtype, width):
    """The dtype is that of the weights, whatever config.json says."""
    folder = build(tmp_path, dtype=dtype, tie_word_embeddings=False)
    network = load_pretrained(folder)
    path = folder / "config.json"
    about = json.loads(path.read_text("utf-8")) | {"dtype": "float64"}
    path.write_text(json.dumps(about), "utf-8")
    code, out, err = run("info", folder)
    first, rows = table(out)
    assert (code, err, first) == (0, "", f"{folder} ({folder})")
    n = sum(weight.numel() for weight in network.parameters())
    assert rows["parameters"] == f"{n:,}"
    assert f"\nmemory to sample, {str(dtype)[6:]}\n" in out
    assert re.findall(r"weights +(.*)", out) == [        # to sample, to train
        amount(n * width), amount(n * 4)]
    assert rows["tie_word_embeddings"] == "False"
    assert rows["lm_head"].startswith(f"{4096 * 32:,} ")


@pytest.mark.parametrize("about, dtype", [
    ({}, "float32"), ({"dtype": "bfloat16"}, "bfloat16"),
    ({"torch_dtype": "float16"}, "float16")])
def test_info_reads_no_weights(run, tmp_path, about, dtype):
    (tmp_path / "config.json").write_text(json.dumps(about), "utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not looked at")
    code, out, err = run("info", tmp_path)
    assert (code, err) == (0, "") and f"memory to sample, {dtype}\n" in out
    assert "124,439,808" in out


# --- tokenize -------------------------------------------------------------

@own_tokenizer
def test_tokenize(run):
    tokenizer = Tokenizer.load(NANO)
    code, out, err = run("tokenize", TEXT)
    ids = tokenizer.encode(TEXT)
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [int(id) for id, _ in lines] == ids
    pieces = [eval(shown) for _, shown in lines]
    assert any(isinstance(piece, bytes) for piece in pieces)
    assert b"".join(piece if isinstance(piece, bytes) else piece.encode()
                    for piece in pieces) == TEXT.encode()
    for piece, id in zip(pieces, ids):
        if isinstance(piece, bytes):
            with pytest.raises(UnicodeDecodeError):
                piece.decode()


@pytest.mark.parametrize("text", [TEXT, "", "\n", "a\n\n", " ", "-x"])
def test_ids_and_back(run, model, text):
    """Exact, the last newline included; also from a pipe."""
    words = ["tokenize", "--model", model]
    ids = " ".join(map(str, load_tokenizer(model).encode(text))) + "\n"
    assert run(*words, "--ids", "--", text) == (0, ids, "")
    assert run(*words, "--ids", "-", stdin=text.encode()) == (0, ids, "")
    assert run(*words, "--ids", stdin=text.encode()) == (0, ids, "")
    assert run(*words, "--decode", ids) == (0, text, "")
    assert run(*words, "--decode", stdin=ids.encode()) == (0, text, "")
    assert run(*words, "--decode", ids.replace(" ", ", ")) == (0, text, "")


def test_tokenize_shows_the_bytes_that_are_there(run, model):
    """It is the tool to look with: nothing is cleaned on the way."""
    text = "\ufeffa\r\nb"
    ids = load_tokenizer(model).encode(text)
    said = " ".join(map(str, ids)) + "\n"
    words = ["tokenize", "--model", model, "--ids"]
    assert run(*words, stdin=text.encode()) == run(*words, text) == (
        0, said, "")
    assert "byte for byte" in " ".join(run("tokenize", "--help")[1].split())


def test_half_a_character_is_decoded_as_one_sign(run, model):
    half = load_tokenizer(model).encode("🙂")[:2]
    out = run("tokenize", "--model", model, "--decode",
              " ".join(map(str, half)))
    assert out == (0, "\N{REPLACEMENT CHARACTER}", "")


def test_tokenizer_of_a_model(run, gpt2_bpe):
    assert run("tokenize", "--model", gpt2_bpe, "--ids", "The dog") == (
        0, "464 3290\n", "")


# --- the book's own model -------------------------------------------------

WITHOUT_A_MODEL = ["sample --prompt def --greedy --max-new-tokens 5", "info",
                   "tokenize x", "evaluate --data corpus --workers 1"
                   " --headers 3 --windows 2"]


@pytest.mark.parametrize("words", WITHOUT_A_MODEL)
def test_the_model_by_default(run, model, tmp_path, monkeypatch, words):
    """It is the one in NANO: the same as if it had been named."""
    make_small(monkeypatch, tmp_path, model)
    command, *options = words.split()
    named = [model] if command == "info" else ["--model", model]
    code, out, err = run(command, *options)
    assert (code, err) == (0, "") and out
    if command == "info":
        assert out.startswith(f"the book's own small model ({model})\n")
        out = out.replace("the book's own small model", str(model))
    assert (code, out, err) == run(command, *named, *options)


@pytest.mark.parametrize("words", WITHOUT_A_MODEL)
def test_the_wheel_has_no_model(run, model, tmp_path, monkeypatch, words):
    """One line says what to give instead; with that, all is well."""
    make_small(monkeypatch, tmp_path, model)
    monkeypatch.setattr(options, "NANO", tmp_path / "none")
    command, *more = words.split()
    argument = "MODEL" if command == "info" else "--model"
    code, out, err = run(command, *more)
    assert (code, out) == (2, "") and is_one_line(err)
    assert f"Invalid value for {argument}: " in err
    assert "name a directory, or gpt2" in err
    named = [model] if command == "info" else ["--model", model]
    assert run(command, *named, *more)[0] == 0


@pytest.mark.skipif(not (NANO / "model.safetensors").exists(),
                    reason="no trained model here")
def test_the_model_that_ships(run):
    """Of the preset's size, with its tokenizer, and it has learned Python."""
    config = GPT2Config.from_preset("nano")
    _, rows = table(run("info")[1])
    assert rows["parameters"] == f"{sum(count_parameters(config).values()):,}"
    code, out, err = run("sample", "--prompt", "import ", "--seed", 1,
                         "--max-new-tokens", 60)
    assert (code, err) == (0, "") and out.startswith("import ")
    network = load_pretrained(NANO, dtype=torch.float32)
    text = "def add(self, value):\n    self.items.append(value)\n"
    ids = torch.tensor([[4095, *Tokenizer.load(NANO).encode(text)]])
    assert network(ids, labels=ids).loss < 4           # untrained: 8.3


# --- what goes wrong ------------------------------------------------------

def damaged(folder, tmp_path, name, change):
    """A copy of a model with one file changed."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    return tmp_path


BAD_ARGUMENTS = {
    "no command": ("", "Missing command"),
    "unknown command": ("smaple", "smaple"),
    "unknown option": ("sample --model {model} --colour red", "--colour"),
    "unknown option before": ("--colour info gpt2", "--colour"),
    "no value": ("sample --model", "--model"),
    "surplus argument": ("info gpt2 gpt2-xl", "gpt2-xl"),
    "not a number": ("sample --model {model} --top-k many", "--top-k"),
    "top_k": ("sample --model {model} --top-k -1", "--top-k"),
    "seed below 0": ("sample --model {model} --seed -1", "--seed"),
    "seed too large": ("sample --model {model} --seed 4294967296", "--seed"),
    "no tokens": ("sample --model {model} --max-new-tokens 0", "--max-new"),
    "no samples": ("sample --model {model} --num-samples 0", "--num-samples"),
    "temperature 0": ("sample --model {model} --temperature 0", "--greedy"),
    "temperature nan": ("sample --model {model} --temperature nan", "temper"),
    "top_p 0": ("sample --model {model} --top-p 0", "top_p"),
    "top_p 2": ("sample --model {model} --top-p 2", "top_p"),
    "penalty": ("sample --model {model} --repetition-penalty 0", "penalty"),
    "dtype": ("sample --model {model} --dtype int8", "bfloat16"),
    "device": ("sample --model {model} --device tpu", "'tpu'"),
    "no such gpu": ("sample --model {model} --device cuda:99", "cuda:99"),
    "no numbers": ("sample --model {model} --device meta", "'meta'"),
    "greedy samples": ("sample --model {model} --greedy --num-samples 2",
                       "--greedy"),
    "unknown model": ("sample --model none/such", "none/such"),
    "no name": ("sample --model no_such_folder", "no_such_folder"),
    "no name, info": ("info no_such_folder", "no_such_folder"),
    "a file": ("sample --model {model}/config.json", "directory"),
    "too much": ("sample --model {model} --max-new-tokens 400", "64"),
    "ids and decode": ("tokenize --model {model} --ids --decode 1", "--ids"),
    "no id": ("tokenize --model {model} --decode 1,x", "'x'"),
    "odd digits": ("tokenize --model {model} --decode ²", "²"),
    "id too large": ("tokenize --model {model} --decode 4096", "4096"),
    "id far too large": ("tokenize --model {model} --decode " + "9" * 5000,
                         "is no id"),
    "no tokenizer": ("tokenize --model {empty} x", "vocab.json"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(run, model, tmp_path, monkeypatch, name):
    line, said = BAD_ARGUMENTS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = [word.format(model=model, empty=tmp_path)
             for word in line.split()]
    code, out, err = run(*words)
    assert (code, out) == (2, ""), err
    assert is_one_line(err) and said in err, err


BAD_FILES = {
    "config cut off": ("config.json", lambda data: data[:50]),
    "config of BERT": ("config.json", lambda data: data.replace(
        b'"gpt2"', b'"bert"')),
    "config with a word": ("config.json", lambda data: data.replace(
        b'"n_layer": 2', b'"n_layer": "2"')),
    "config not UTF-8": ("config.json", lambda data: b"\xff" + data),
    "config of another model": ("config.json", lambda data: data.replace(
        b'"n_layer": 2', b'"n_layer": 3')),
    "weights cut off": ("model.safetensors", lambda data: data[:-100]),
    "weights empty": ("model.safetensors", lambda data: b""),
    "merges": ("merges.txt", lambda data: data + b"one two three\n"),
    "vocabulary": ("vocab.json", lambda data: data[:-2]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(run, model, tmp_path, name):
    """Named, on one line; also by `info`, as far as it looks."""
    file, change = BAD_FILES[name]
    folder = damaged(model, tmp_path, file, change)
    for path in folder.glob("tokenizer*.json"):
        path.unlink()            # or vocab.json and merges.txt are not read
    code, out, err = run("sample", "--model", folder, "--prompt", "x")
    assert (code, out) == (2, ""), err
    assert is_one_line(err) and str(folder) in err, err
    if name not in ("merges", "vocabulary", "config of another model"):
        code, out, err = run("info", folder)
        assert (code, out) == (2, ""), err
        assert is_one_line(err) and str(folder) in err, err


def string_options():
    """(command, option or argument) of each that takes a word or a path."""
    odd = {"json_file": "--json"}
    for command in app.app.registered_commands:
        function = command.callback
        for name, each in inspect.signature(function).parameters.items():
            kind, *_ = get_args(each.annotation) or [None]
            if {str, Path} & {kind, *get_args(kind)} and name not in (
                    "prompt", "text"):                     # these may be empty
                option = odd.get(name, "--" + name.replace("_", "-"))
                yield function.__name__, (
                    "MODEL" if function.__name__ == "info" else option)


@pytest.mark.parametrize("command, option", string_options())
def test_an_empty_value_is_not_the_default(run, tmp_path, monkeypatch,
                                           command, option):
    """`--data "$DATA"`, and DATA is not set: not the standard library."""
    monkeypatch.chdir(tmp_path)
    for module, work in [(sample, "load_model"), (evaluate, "load_model"),
                         (tokenize, "load_tokenizer"),
                         (train, "choose_engine")]:
        monkeypatch.setattr(module, work, None)            # it gets nowhere
    words = [option, ""] if option.startswith("-") else [""]
    if command == "train" and option != "--out":
        words += ["--out", "o"]
    code, out, err = run(command, *words)
    assert (code, out) == (2, "") and is_one_line(err)
    assert "it is empty" in err and not list(tmp_path.iterdir())


def test_which_values_may_not_be_empty():
    found = {*string_options()}
    assert len(found) >= 15 and {
        ("train", "--data"), ("train", "--out"), ("train", "--preset"),
        ("train", "--micro-batch"), ("train", "--tokenizer"),
        ("train", "--init-from"), ("evaluate", "--json"),
        ("evaluate", "--task"), ("info", "MODEL"),
        ("sample", "--device"), ("tokenize", "--model")} <= found


def test_a_larger_tokenizer_than_the_model(run, tmp_path):
    folder = build(tmp_path, vocab_size=4095, eos_token_id=None)
    code, out, err = run("sample", "--model", folder, "--prompt", "x")
    assert (code, out) == (2, "") and is_one_line(err)
    assert "4,096" in err and "4,095" in err


def test_text_that_is_not_utf8(run, model):
    for words in (["sample", "--model", model],
                  ["tokenize", "--model", model, "-"]):
        code, out, err = run(*words, stdin=b"abc\xff")
        assert (code, out) == (2, "") and is_one_line(err)
        assert "standard input" in err and "byte 3" in err
    code, out, err = run("tokenize", "--model", model, "ab\udcff")
    assert (code, out) == (2, "") and is_one_line(err)


def test_nothing_to_read(run, model):
    code, out, err = run("tokenize", "--model", model, terminal=True)
    assert (code, out) == (2, "") and is_one_line(err)


def test_a_fault_of_the_program_keeps_its_traceback(run, model, monkeypatch):
    for error in RuntimeError, TypeError, KeyError, AssertionError:
        def broken(*arguments, **options):
            raise error("a fault")
        monkeypatch.setattr(generation, "generate", broken)
        with pytest.raises(error, match="a fault"):
            run("sample", "--model", model, "--prompt", "x", "--seed", 1)


@pytest.mark.parametrize("ask", [
    lambda: torch.empty(2 ** 60), lambda: torch.empty(2 ** 62),
    lambda: bytearray(2 ** 62)])
def test_more_than_the_cpu_has_is_one_line(run, model, monkeypatch, ask):
    """As with --num-samples 100000000; PyTorch has no class for it."""
    monkeypatch.setattr(generation, "generate", lambda *a, **o: ask())
    code, out, err = run("sample", "--model", model, "--prompt", "x",
                         "--seed", 1)
    assert (code, out) == (2, "") and is_one_line(err)
    assert "not enough memory" in err and "enforce fail" not in err


def test_out_of_memory_is_one_line(run, model, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate")
    monkeypatch.setattr(sample, "load_model", full)
    code, out, err = run("sample", "--model", model, "--prompt", "x")
    assert (code, out) == (2, "") and is_one_line(err)


# --- help -----------------------------------------------------------------

def helps(run):
    return {name: run(*name.split(), "--help")
            for name in ("", *COMMANDS)}


def test_help_is_readable(run, monkeypatch):
    """Plain text, at most 80 wide, with a line for every command."""
    monkeypatch.setenv("COLUMNS", "80")
    for name, (code, out, err) in helps(run).items():
        assert (code, err) == (0, "")
        assert out.isascii() and max(map(len, out.splitlines())) <= 80
        assert out.startswith(f"Usage: python -m gpt2 {name}".rstrip())
        assert "\n  Examples:\n    python -m gpt2 " in out
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", out)
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", helps(run)[""][1], re.M)


def example_lines(run):
    for name, (_, out, _) in helps(run).items():
        for line in out.partition("Examples:\n")[2].splitlines():
            yield line.strip()


def shell_lines(fence):
    blocks = re.findall(rf"^```{fence}\n(.*?)^```",
                        (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    lines = "".join(blocks).splitlines()
    return [line for line in lines if "python -m gpt2" in line]


@own_tokenizer
def test_examples_of_the_help_run(run, model, tmp_path, monkeypatch):
    make_small(monkeypatch, tmp_path, model)
    lines = [*example_lines(run)]
    assert len(lines) >= 10
    for line in lines:
        code, out, err = run_example(run, line, model)
        assert code == 0 and out, (line, err)
    assert {line.split("-m gpt2 ")[1].split()[0]
            for line in lines} == {*COMMANDS}


@own_tokenizer
def test_examples_of_the_readme(run, model, tmp_path, monkeypatch):
    make_small(monkeypatch, tmp_path, model)
    lines = shell_lines("bash")
    assert len(lines) >= 3
    for line in lines:
        code, out, err = run_example(run, line, model)
        assert code == 0 and out, (line, err)


@own_tokenizer
def test_what_the_readme_shows(run):
    """Each output is that of the very command above it."""
    blocks = re.findall(r"^```console\n(.*?)^```",
                        (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    shown = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.M)
    assert len(shown) >= 5
    for line, wanted in shown:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "gpt2"], line
        code, out, err = run(*words[3:])
        assert (code, err) == (0, "")
        assert out.rstrip() == wanted.rstrip(), line


def test_version(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"gpt2-book \d+\.\d+\.\d+\S*, torch "
                        rf"{re.escape(torch.__version__)}\n", out)


def test_version_of_a_checkout_that_is_not_installed(run, monkeypatch):
    def missing(name):
        raise app.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(app.metadata, "version", missing)
    code, out, err = run("--version")
    assert (code, err) == (0, "") and "not installed" in out


# --- as a process ---------------------------------------------------------

def test_a_process_that_fails(tmp_path):
    """Exit code, one line, nothing on standard output, whatever the shell."""
    code, out, err = process("sample", "--model", "no_such_folder",
                             cwd=tmp_path)
    assert (code, out) == (2, "") and is_one_line(err)


def test_nothing_heavy_is_imported(model):
    """Nor by `import gpt2`, which must not bring the command line's needs."""
    script = f"""
import sys
import gpt2
assert not {{"typer", "click", "rich", "pydantic"}} & set(sys.modules)
from gpt2.__main__ import main
code = main(["sample", "--help"]), main(["sample", "--foo"])
code += main(["tokenize", "x", "--model", {str(model)!r}]),
assert code == (0, 2, 0), code
heavy = {{"transformers", "tokenizers", "huggingface_hub", "rich"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_network_is_one_line(tmp_path):
    """Without the library's own lines about each of its attempts."""
    script = """
import sys, time
time.sleep = lambda seconds: None            # between attempts
from gpt2.__main__ import main
sys.exit(main(["tokenize", "--model", "gpt2", "x"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True,
        timeout=120, env=os.environ | {
            "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path),
            "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr), done.stderr


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}])
def test_any_terminal_gets_utf8(model, environment):
    """And the text typed there is read as UTF-8."""
    text = "naïve 🙂"
    (wanted,) = directly(model, text, 5)
    assert process("sample", "--model", model, "--greedy", "--prompt", text,
                   "--max-new-tokens", 5, environment=environment) == (
        0, wanted + "\n", "")


ENDLESS = ["--prompt", "x", "--max-new-tokens", 50_000, "--stream"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and pipes")
def test_the_reader_leaves(endless):
    """As with `| head`: it ends at once, and says nothing."""
    with start("sample", "--model", endless, *ENDLESS) as running:
        assert running.stdout.read(2)
        running.stdout.close()
        assert running.wait(timeout=120) == 141
        assert running.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and pipes")
def test_control_c(endless):
    with start("sample", "--model", endless, *ENDLESS) as running:
        assert running.stdout.read(2)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (130, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(model):
    with open("/dev/full", "wb") as full:
        code, _, err = process("tokenize", "--model", model, "x", stdout=full)
    assert code == 2 and is_one_line(err)
