"""The small model that ships: what lies in checkpoints/nano, and its record."""
import json
import math
import platform
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpt2 import GPT2Config
from gpt2.checks import check
from gpt2.data import SPLITS, Tokens, prepare
from gpt2.command_line.runs import read_rows
from gpt2.pretrained import load_pretrained, load_tokenizer, read_config
from gpt2.training import evaluate

ROOT = Path(__file__).resolve().parent.parent
NANO = ROOT / "checkpoints" / "nano"
pytestmark = pytest.mark.skipif(
    not NANO.is_dir(), reason="the wheel has no checkpoints/nano")
sys.path.insert(0, str(ROOT / "tools"))
PROSE = "A robot must obey the orders given it"
CODE = '''import os


def read(path):
    """Return the text of a file."""
    with open(path) as file:
        return file.read()
'''


@pytest.fixture(scope="module")
def model():
    return load_pretrained(NANO, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(NANO)


@pytest.fixture(scope="module")
def found():
    return json.loads((NANO / "evaluation.json").read_text("utf-8"))


def test_files():
    assert sum(p.stat().st_size for p in NANO.iterdir()) < 30e6
    with safe_open(NANO / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}
        assert kinds == {"BF16"} and "lm_head.weight" not in file.keys()
    config, preset = read_config(NANO), GPT2Config.from_preset("nano")
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head",
                 "eos_token_id", "tie_word_embeddings"):
        assert getattr(config, name) == getattr(preset, name), name


def test_transformers_reads_the_same_model(model, tokenizer):
    theirs = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32)
    their_tokenizer = AutoTokenizer.from_pretrained(NANO)
    for text in (PROSE, CODE):
        ids = torch.tensor([tokenizer.encode(text)])
        assert their_tokenizer(text)["input_ids"] == ids[0].tolist()
        with torch.no_grad():
            check("logits", model(ids).logits, theirs(ids).logits)


def test_every_number_of_it_is_finite(model):
    assert all(p.isfinite().all() for p in model.parameters())


def test_it_knows_python(model, tokenizer):
    """Far better than chance, and better on Python than on its lines
    shuffled: it reads the context."""
    def loss(text):
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.no_grad():
            return model(ids, labels=ids).loss.item()
    assert loss(CODE) < 0.5 * math.log(4096)
    words = CODE.split(" ")
    assert loss(CODE) < loss(" ".join(words[::-1])) - 0.5


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("stdlib")
    prepare("stdlib", tokenizer, folder)
    return [Tokens(folder, split, tokenizer) for split in SPLITS]


def test_held_out_text(model, tokenizer, stdlib, found):
    """The record's number, on a part of the text, on this machine."""
    _, held_out = stdlib
    here = evaluate(model, held_out, tokenizer, windows=64)["bits_per_byte"]
    stated = found["bits_per_byte"]["model"]
    if len(held_out) == found["held_out"]:        # the same Python's files
        assert abs(here / stated - 1) < 0.05
        assert held_out.left_out == found["left_out"]
    else:              # of many of these files it has read another version
        assert platform.python_version() != "3.11.7"
        assert 0.5 < here / stated < 1.15


def test_held_out_text_was_not_learned_by_heart(model, tokenizer, stdlib):
    """Training text costs less, but not nothing: nothing leaked."""
    training, held_out = (evaluate(model, tokens, tokenizer, windows=48)
                          for tokens in stdlib)
    assert training["loss"] > 0.5 * held_out["loss"]


def test_a_planted_fault_is_seen(model, tokenizer, stdlib):
    """The comparison above is sharp enough to see transposed weights."""
    broken = load_pretrained(NANO, dtype=torch.float32)
    weight = broken.h[0].attn.c_proj.weight
    weight.data = weight.data.T.contiguous()
    whole, here = (evaluate(each, stdlib[1], tokenizer, windows=8)
                   for each in (model, broken))
    assert here["bits_per_byte"] > 1.01 * whole["bits_per_byte"]


def test_the_record_says_what_was_measured(found):
    """RUN.md's tables are those of evaluation.json and metrics.jsonl."""
    import ship_model
    run = (NANO / "RUN.md").read_text("utf-8")
    rows = read_rows(NANO / "metrics.jsonl")
    assert ship_model.result_table(found) in run
    for row in rows:
        if "validation_loss" in row:
            assert (f"| {row['validation_loss']:.3f} |"
                    f" {row['validation_bits_per_byte']:.3f} |") in run
    assert ship_model.samples(rows) in run
    assert found["of_xz"]["model"] == pytest.approx(
        found["bits_per_byte"]["model"] / found["bits_per_byte"]["xz -9e"])
