"""Chapter 11: every form of checkpoint is read, every damaged one refused."""
import json
import os
import pickle
import random
import shutil
import stat
import struct
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import (AutoModelForCausalLM, AutoTokenizer,
                          GPT2DoubleHeadsModel, GPT2ForQuestionAnswering,
                          GPT2ForSequenceClassification,
                          GPT2ForTokenClassification, GPT2LMHeadModel,
                          GPT2Model, GPT2Tokenizer)
from transformers.utils.logging import disable_progress_bar

from gpt2 import pretrained
from gpt2.checks import reference_model
from gpt2.config import PRESETS, GPT2Config, config_to_dict
from gpt2.files import hub, tokenizer_files
from gpt2.generation import generate
from gpt2.model import GPT2
from gpt2.pretrained import (HUB, CheckpointError, find_directory,
                             load_pretrained, load_tokenizer,
                             save_pretrained, save_tokenizer)
from gpt2.tokenizer import Tokenizer

disable_progress_bar()
TINY = GPT2Config(vocab_size=40, n_positions=16, n_embd=12, n_layer=2,
                  n_head=3, bos_token_id=39, eos_token_id=39)
UNTIED = replace(TINY, tie_word_embeddings=False)
IDS = torch.arange(10).view(2, 5)


@torch.no_grad()
def logits(model, ids=IDS):
    return model(ids).logits


@pytest.fixture(scope="module")
def theirs():
    return reference_model(TINY, dtype=torch.float32, sharpen=8)


@pytest.fixture(scope="module")
def state(theirs):
    """Their tensors, without prefix and without the tied head."""
    return {name.removeprefix("transformer."): p.detach().clone()
            for name, p in theirs.named_parameters()}


@pytest.fixture
def saved(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def write(folder, tensors, config=TINY, kind="safetensors", **changes):
    """A checkpoint of exactly these tensors."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(config_to_dict(config) | changes))
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in tensors.items()},
                  folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin",
                   _use_new_zipfile_serialization=kind != "legacy")
    return folder


def refused(folder, *fragments, **kwargs):
    """load_pretrained raises CheckpointError, in one readable message."""
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(folder, **kwargs)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, message
    assert "weights_only" not in message and "\n" not in message
    return message


# Every form

KINDS = ("safetensors", "bin", "legacy")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [GPT2LMHeadModel, GPT2Model])
def test_what_transformers_saves(tied, kind, tmp_path):
    config = TINY if tied else UNTIED
    whole = reference_model(config, dtype=torch.float32, sharpen=8)
    model = whole if kind is GPT2LMHeadModel else whole.transformer
    model.save_pretrained(tmp_path)
    if kind is GPT2Model and not tied:              # it has no head to save
        refused(tmp_path, "lm_head.weight (40, 12)")
        return
    ours = load_pretrained(tmp_path)
    assert torch.equal(logits(ours), logits(whole))
    assert not ours.training
    assert all(p.requires_grad for p in ours.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("head", [True, False])
def test_dialects(kind, prefix, head, theirs, state, tmp_path):
    tensors = {prefix + name: p for name, p in state.items()}
    if head:
        tensors["lm_head.weight"] = state["wte.weight"].clone()
    ours = load_pretrained(write(tmp_path, tensors, kind=kind))
    assert torch.equal(logits(ours), logits(theirs))
    assert ours.state_dict().keys() == state.keys()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_old_buffers_are_left_out(dtype, prefix, theirs, state, tmp_path):
    tensors = {prefix + name: p for name, p in state.items()}
    for i in range(TINY.n_layer):
        mask = torch.ones(16, 16).tril()[None, None].to(dtype)
        tensors[f"{prefix}h.{i}.attn.bias"] = mask
        tensors[f"{prefix}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    ours = load_pretrained(write(tmp_path, tensors))
    assert torch.equal(logits(ours), logits(theirs))
    assert torch.equal(ours.h[1].attn.c_attn.bias,
                       state["h.1.attn.c_attn.bias"])


def test_a_missing_c_attn_bias_is_no_old_buffer(state, tmp_path):
    lost = {k: v for k, v in state.items() if k != "h.0.attn.c_attn.bias"}
    refused(write(tmp_path, lost), "h.0.attn.c_attn.bias (36,)")
    extra = {**state, "h.2.attn.c_attn.bias": torch.zeros(36)}
    refused(write(tmp_path, extra), "h.2.attn.c_attn.bias")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_head(kind, theirs, state, tmp_path):
    tensors = dict(state)
    tensors["lm_head.weight"] = tensors.pop("wte.weight")
    ours = load_pretrained(write(tmp_path, tensors, kind=kind))
    assert torch.equal(logits(ours), logits(theirs))
    refused(write(tmp_path, tensors, UNTIED, kind=kind), "wte.weight")


@pytest.mark.parametrize("change", [1e-3, "shape"])
def test_tied_config_but_two_matrices(change, state, tmp_path):
    head = (torch.zeros(41, 12) if change == "shape"
            else state["wte.weight"] + change)
    folder = write(tmp_path, {**state, "lm_head.weight": head})
    refused(folder, "lm_head.weight", "model.safetensors",
            "tie_word_embeddings")


def test_untied_but_one_memory_in_the_pickle(state, tmp_path):
    tensors = {**state, "lm_head.weight": state["wte.weight"]}
    ours = load_pretrained(write(tmp_path, tensors, UNTIED, kind="bin"))
    with torch.no_grad():
        ours.wte.weight += 1
    assert torch.equal(ours.lm_head.weight, state["wte.weight"])


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(kind, theirs, state, tmp_path):
    name, ending = (("model", "safetensors") if kind == "safetensors"
                    else ("pytorch_model", "bin"))
    folder, place = write(tmp_path, {"x": torch.zeros(1)}), {}
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    for n, part in enumerate((names[::3], names[1::3], names[2::3]), 1):
        shard = f"{name}-0000{n}-of-00003.{ending}"
        tensors = {f"transformer.{k}": state[k].clone() for k in part}
        (save_file if kind == "safetensors" else torch.save)(
            tensors, folder / shard)
        place |= dict.fromkeys(tensors, shard)
    index = folder / f"{name}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert torch.equal(logits(load_pretrained(folder)), logits(theirs))

    broken = folder / f"{name}-00002-of-00003.{ending}"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-9])
    refused(folder, broken.name)
    broken.unlink()
    refused(folder, broken.name, "missing")
    shutil.copy(folder / f"{name}-00001-of-00003.{ending}", broken)
    refused(folder, broken.name, "second time")


@pytest.mark.parametrize("weight_map", [
    {"wte.weight": "../out.safetensors"}, {"wte.weight": "/out.safetensors"},
    {"wte.weight": "a/out.safetensors"}, {"wte.weight": "..\\out"},
    {"wte.weight": "C:out"}, {"wte.weight": ".."}, {"wte.weight": ""},
    {"wte.weight": 3}, {"wte.weight": None}, {}, [], "x", None])
def test_index_stays_in_its_directory(weight_map, state, tmp_path):
    write(tmp_path, state)
    shutil.move(tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    (tmp_path / "inner").mkdir()
    shutil.copy(tmp_path / "config.json", tmp_path / "inner")
    index = tmp_path / "inner/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    refused(tmp_path / "inner", str(index))


def test_safetensors_come_before_pickles(theirs, state, tmp_path):
    write(tmp_path, {k: v + 1 for k, v in state.items()}, kind="bin")
    write(tmp_path, state)
    assert torch.equal(logits(load_pretrained(tmp_path)), logits(theirs))


# Types

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32,
                                   torch.bfloat16, torch.float16])
def test_the_file_keeps_its_type(kind, dtype, state, tmp_path):
    tensors = {name: p.to(dtype) for name, p in state.items()}
    folder = write(tmp_path, tensors, kind=kind)
    ours = load_pretrained(folder)
    assert {p.dtype for p in ours.parameters()} == {dtype}
    assert logits(ours).dtype == dtype
    for wanted in (torch.float64, torch.float32, torch.bfloat16):
        other = load_pretrained(folder, dtype=wanted)
        for name, p in other.named_parameters():
            assert torch.equal(p, tensors[name].to(wanted))


def test_the_config_does_not_change_the_type(state, tmp_path):
    folder = write(tmp_path, state, dtype="bfloat16")
    assert load_pretrained(folder).wte.weight.dtype == torch.float32


def test_mixed_types(state, tmp_path):
    tensors = {**state, "ln_f.bias": state["ln_f.bias"].bfloat16()}
    folder = write(tmp_path, tensors)
    refused(folder, "float32", "bfloat16", "ln_f.bias", "dtype=")
    ours = load_pretrained(folder, dtype=torch.float32)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool,
                                   torch.float8_e4m3fn, "float32", float])
def test_no_type_for_weights(dtype, saved):
    refused(saved, "dtype is", "torch.float32", dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool,
                                   torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("given", [None, torch.float32])
def test_tensors_that_are_no_weights(dtype, given, state, tmp_path):
    kind = "bin" if dtype == torch.complex64 else "safetensors"
    tensors = {**state, "h.1.ln_1.bias": torch.zeros(12).to(dtype)}
    refused(write(tmp_path, tensors, kind=kind), "h.1.ln_1.bias", str(dtype),
            dtype=given)


@pytest.mark.parametrize("value", [
    3.0, None, [1.0], {"a": torch.zeros(1)}, torch.zeros(12).to_sparse(),
    torch.zeros(12, device="meta")], ids=lambda value: type(value).__name__)
def test_pickles_that_hold_other_things(value, state, tmp_path):
    refused(write(tmp_path, {**state, "ln_f.bias": value}, kind="bin"))


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), 3, {}])
def test_pickles_that_are_no_table(content, state, tmp_path):
    refused(write(tmp_path, content, kind="bin"))


def test_parameters_and_transposed_views_in_a_pickle(theirs, state, tmp_path):
    tensors = {name: torch.nn.Parameter(p.T.contiguous().T if p.dim() == 2
                                        else p) for name, p in state.items()}
    ours = load_pretrained(write(tmp_path, tensors, kind="bin"))
    assert torch.equal(logits(ours), logits(theirs))
    assert all(p.is_contiguous() and p.is_leaf for p in ours.parameters())


# Strictness

def test_each_missing_or_misshapen_tensor_is_named(state, tmp_path):
    for name, p in state.items():
        rest = {k: v for k, v in state.items() if k != name}
        shape = str(tuple(p.shape))
        said = refused(write(tmp_path, rest), f"{name} {shape}", "has no")
        assert str(tmp_path) in said
        grown = torch.zeros(*p.shape[:-1], p.shape[-1] + 1)
        refused(write(tmp_path, {**rest, name: grown}), name, shape,
                str(tuple(grown.shape)), "model.safetensors")


@pytest.mark.parametrize("name", [
    "h.2.ln_1.weight", "module.wte.weight", "h.0.attn.bias2", "score.weight",
    "h.0.crossattention.c_attn.weight", "attn.bias", "h.x.attn.bias"])
def test_surplus_tensors(name, state, tmp_path):
    folder = write(tmp_path, {**state, name: torch.zeros(2)})
    refused(folder, name, "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", [
    "module.{}", "_orig_mod.{}", "module._orig_mod.transformer.{}",
    "_orig_mod.module.{}", "transformer._orig_mod.{}"])
def test_wrappers_that_were_saved_too(kind, wrap, theirs, state, tmp_path):
    """torch.compile and data-parallel classes; a block may be wrapped too."""
    tensors = {wrap.format(name.replace("h.1.", "h.1._orig_mod.")): p
               for name, p in state.items()}
    tensors |= {wrap.format("h.0.attn.masked_bias"): torch.tensor(-1e4)}
    ours = load_pretrained(write(tmp_path, tensors, kind=kind))
    assert torch.equal(logits(ours), logits(theirs))
    twice = tensors | {"ln_f.bias": state["ln_f.bias"].clone()}
    refused(write(tmp_path, twice, kind=kind), "ln_f.bias", "second time")


def test_names_of_unknown_wrappers_are_shown(state, tmp_path):
    for prefix in ("model.", "net.", "submodule.", "my_module."):
        wrapped = {f"{prefix}{name}": p for name, p in state.items()}
        refused(write(tmp_path, wrapped), "wte.weight (40, 12)", prefix,
                "config.json of the same checkpoint")


@pytest.mark.parametrize("kind", [
    GPT2ForSequenceClassification, GPT2ForTokenClassification,
    GPT2ForQuestionAnswering, GPT2DoubleHeadsModel])
def test_other_heads_of_transformers(kind, tmp_path):
    """Refused with the cause; and the remedy that is named works."""
    from gpt2.checks import reference_config
    model = kind(reference_config(TINY)).eval()
    model.save_pretrained(tmp_path)
    said = refused(tmp_path, "another head", "AutoModelForCausalLM")
    assert "config.json" not in said
    AutoModelForCausalLM.from_pretrained(tmp_path).save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert torch.equal(ours.wte.weight, model.transformer.wte.weight)


@pytest.mark.parametrize("name, cause", [
    ("h.0.attn.c_attn.lora_A.default.weight", "LoRA"),
    ("base_model.model.transformer.wte.weight", "LoRA"),
    ("h.1.mlp.c_fc.weight_orig", "pruning"),
    ("h.1.mlp.c_fc.parametrizations.weight.original0", "parametrization"),
    ("h.0.crossattention.c_attn.weight", "decoder alone"),
    ("h.0.ln_cross_attn.weight", "decoder alone"),
    ("scores.weight", "config.json of the same")])
def test_the_cause_of_a_surplus_tensor(name, cause, state, tmp_path):
    tensors = {**state, name: torch.zeros(2)}
    refused(write(tmp_path, tensors), name, cause)
    tensors.pop("h.1.mlp.c_fc.weight")
    refused(write(tmp_path, tensors), "h.1.mlp.c_fc.weight", name, cause)


def test_with_and_without_prefix(state, tmp_path):
    twice = {**state, "transformer.ln_f.bias": state["ln_f.bias"].clone()}
    refused(write(tmp_path, twice), "ln_f.bias", "second time")


@pytest.mark.parametrize("changes, fragments", [
    (dict(n_layer=3), ["h.2.ln_1.weight"]),
    (dict(n_layer=10**12), ["h.2.ln_1.weight"]),
    (dict(vocab_size=10**30), ["config.json"]),
    (dict(n_positions=2**40), ["wpe.weight"]),
    (dict(n_inner=2**62), ["config.json"]),
    (dict(n_layer=1), ["h.1.", "no tensor of this GPT-2"]),
    (dict(n_embd=24), ["wte.weight", "(40, 12)", "(40, 24)"]),
    (dict(vocab_size=41), ["wte.weight", "(41, 12)"]),
    (dict(n_positions=17), ["wpe.weight", "(17, 12)"]),
    (dict(n_inner=40), ["h.0.mlp.c_fc.weight", "(12, 40)"])])
def test_config_of_another_checkpoint(changes, fragments, state, tmp_path):
    refused(write(tmp_path, state, **changes), *fragments)


@pytest.mark.parametrize("content, fragment", [
    ("", "empty"), ("{", "not JSON"), ("[1]", "no JSON object"),
    ("null", "no JSON object"), ('{"n_head": 3, "n_head": 4}', "twice"),
    ("[" * 100_000, "not JSON"), (b"\xff\xfe{}", "not JSON"),
    ('{"model_type": "bert"}', "'bert'"), ('{"n_layer": "2"}', "n_layer"),
    ('{"n_embd": 10, "n_head": 3}', "divisible"), ('{"n_layer": 0}', "n_layer"),
    ('{"activation_function": "none"}', "activation_function"),
    ('{"add_cross_attention": true}', "add_cross_attention"),
    ('{"n_layer": ' + "[" * 900 + "]" * 900 + "}", "n_layer"),
    ('{"a": ' * 100_000, "not JSON"), (b"\xff\xfe{\0}\0", "not JSON"),
    (b"\xef\xbb\xbf \n<!DOCTYPE html>", "web page")])
def test_config_that_is_none(content, fragment, saved):
    content = content if isinstance(content, bytes) else content.encode()
    (saved / "config.json").write_bytes(content)
    refused(saved, "config.json", fragment)


def test_blocks_that_no_file_holds_are_not_built(state, tmp_path,
                                                 monkeypatch):
    """A config may name a billion; names are compared before they exist."""
    built = []

    class Counted(GPT2):
        def __init__(self, config):
            built.append(config.n_layer)
            super().__init__(config)

    monkeypatch.setattr(pretrained, "GPT2", Counted)
    refused(write(tmp_path, state, n_layer=700), "h.2.ln_1.weight")
    assert built == [3]


def test_config_missing(saved):
    (saved / "config.json").unlink()
    refused(saved, "config.json", str(saved))


@pytest.mark.parametrize("other", ["tf_model.h5", "model.gguf",
                                   "adapter_model.safetensors"])
def test_no_weights_but_others(other, saved):
    (saved / "model.safetensors").rename(saved / other)
    refused(saved, other, "model.safetensors", "pytorch_model.bin")


def test_a_folder_in_place_of_the_file(saved):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").mkdir()
    refused(saved, "model.safetensors")


def test_a_link_to_nowhere(saved):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").symlink_to(saved / "gone")
    refused(saved, "model.safetensors", "cannot be opened")


POINTER = (b"version https://git-lfs.github.com/spec/v1\noid sha256:"
           + b"0" * 64 + b"\nsize 548105171\n")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin",
                                  "config.json",
                                  "model.safetensors.index.json"])
@pytest.mark.parametrize("content, fragment", [
    (b"", "is empty"), (POINTER, "git lfs pull"),
    (b"\n<!DOCTYPE html><html>", "web page")])
def test_stand_ins(name, content, fragment, saved):
    if name != "config.json":
        (saved / "model.safetensors").unlink()
    (saved / name).write_bytes(content)
    refused(saved, name, fragment)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused(kind, state, tmp_path):
    write(tmp_path, state, kind=kind)
    path = next(p for p in tmp_path.iterdir() if p.suffix != ".json")
    whole = path.read_bytes()
    cuts = {1, 2, 7, 8, 9, 100, len(whole) // 2, *range(
        len(whole) - 300, len(whole), 60), *range(
        200, len(whole), len(whole) // 40)}
    if kind == "safetensors":
        cuts.add(len(whole) - 1)
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        refused(tmp_path, path.name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_load_whole_or_not_at_all(kind, state, tmp_path):
    """Random bytes changed at the places that are no numbers: an error of
    ours or a whole model, never another exception."""
    write(tmp_path, state, kind=kind)
    path = next(p for p in tmp_path.iterdir() if p.suffix != ".json")
    whole, dice = path.read_bytes(), random.Random(0)
    shapes = {name: p.shape for name, p in state.items()}
    refusals = 0
    for _ in range(150):
        data = bytearray(whole)
        span = len(data) if kind == "bin" else 2_500
        for _ in range(dice.choice((1, 1, 4))):
            data[dice.randrange(span)] = dice.randrange(256)
        path.write_bytes(data)
        try:
            model = load_pretrained(tmp_path)
        except CheckpointError as error:
            assert path.name in str(error) or str(tmp_path) in str(error)
            refusals += 1
        else:
            assert {name: p.shape for name, p
                    in model.named_parameters()} == shapes
    assert refusals > 20


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", ["bin", "legacy", "plain"])
@pytest.mark.parametrize("where", ["instead", "beside"])
def test_nothing_in_a_pickle_runs(kind, where, state, tmp_path):
    mark = tmp_path / "it_ran"
    evil = (Trap(mark) if where == "instead"
            else {**state, "ln_f.bias": Trap(mark)})
    folder = write(tmp_path / "evil", state)
    (folder / "model.safetensors").unlink()
    if kind == "plain":
        evil = evil if where == "instead" else {"ln_f.bias": Trap(mark)}
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(evil, 2))
    else:
        write(folder, evil, kind=kind)
    said = refused(folder, "pytorch_model.bin", "cannot be read")
    assert not mark.exists()
    if kind != "plain":
        assert "mkdir" in said and "nothing in it was run" in said


def test_errors_leave_torch_as_it_was(saved):
    before = torch.random.get_rng_state()
    load_pretrained(saved)
    (saved / "model.safetensors").write_bytes(b"")
    refused(saved)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.empty(1).device.type == "cpu"
    assert torch.nn.init.normal_(torch.zeros(9)).any()


# Mapped

def test_the_weights_are_views_of_the_file(saved):
    data = (saved / "model.safetensors").read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    model = load_pretrained(saved)
    start = min(p.data_ptr() for p in model.parameters())
    for name, p in model.named_parameters():
        offset = header[f"transformer.{name}"]["data_offsets"][0]
        assert p.data_ptr() - start == offset, name


@pytest.mark.parametrize("kind", KINDS)
def test_training_does_not_change_the_file(kind, state, tmp_path):
    folder = write(tmp_path, state, kind=kind)
    path = next(p for p in folder.iterdir() if p.suffix != ".json")
    before = path.read_bytes()
    model = load_pretrained(folder)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert not torch.equal(model.wte.weight, state["wte.weight"])
    assert path.read_bytes() == before
    assert torch.equal(load_pretrained(folder).wte.weight,
                       state["wte.weight"])


@pytest.mark.parametrize("room", [8_001, 8_002, 8_003, 0x3C20, 0x3C3C])
def test_a_header_of_any_length(room, theirs, saved):
    """Published files exist whose tensors begin at odd addresses. And the
    length itself may look like text: 0x3C20 is " <", as of a web page."""
    path = saved / "model.safetensors"
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = data[8:8 + length].rstrip()
    header += b" " * (room - len(header))
    path.write_bytes(struct.pack("<Q", len(header)) + header
                     + data[8 + length:])
    ours = load_pretrained(saved)
    assert ours.wte.weight.data_ptr() % 4 == room % 4
    assert torch.equal(logits(ours), logits(theirs))
    ours(IDS, labels=IDS).loss.backward()
    again = GPT2(TINY).eval()
    again.load_state_dict(ours.state_dict())
    again(IDS, labels=IDS).loss.backward()
    for p, q in zip(ours.parameters(), again.parameters()):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)


def test_loading_imports_little(saved):
    """PyTorch's decompositions, 800 modules, take longer than the weights;
    nothing of Hugging Face's but safetensors is needed for a directory."""
    code = f"""
import sys, torch
heavy = {{"transformers", "huggingface_hub", "sympy", "torch._dynamo"}}
heavy -= set(sys.modules)                # torch 2.6 imports sympy by itself
from gpt2.pretrained import load_pretrained
load_pretrained({str(saved)!r})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True,
                   cwd=Path(pretrained.__file__).parent.parent)


def test_to_a_device(saved):
    model = load_pretrained(saved, device="meta")
    assert model.wte.weight.is_meta
    assert load_pretrained(saved, device=torch.device("cpu")).wte.weight.any()


# Saving

VARIANTS = {
    "tied": {}, "untied": dict(tie_word_embeddings=False),
    "inner": dict(n_inner=20), "gelu": dict(activation_function="gelu"),
    "no tokens": dict(bos_token_id=None, eos_token_id=None),
    "pad": dict(pad_token_id=3), "several ends": dict(eos_token_id=[3, 39]),
    "no cache": dict(use_cache=False),
    "scaled": dict(scale_attn_by_inverse_layer_idx=True,
                   layer_norm_epsilon=1e-3),
    "id 0": dict(bos_token_id=0, eos_token_id=0, pad_token_id=0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_as_transformers_saves(variant, dtype, tmp_path):
    """One model, saved by both: the same weights, configs, logits."""
    config = replace(TINY, **VARIANTS[variant])
    hugging_face = reference_model(config, dtype=dtype, sharpen=8)
    hugging_face.save_pretrained(tmp_path / "theirs")
    save_pretrained(load_pretrained(tmp_path / "theirs"), tmp_path / "ours")
    names = {"config.json", "generation_config.json", "model.safetensors"}
    assert {p.name for p in (tmp_path / "ours").iterdir()} == names
    assert ((tmp_path / "ours/model.safetensors").read_bytes()
            == (tmp_path / "theirs/model.safetensors").read_bytes())
    for name in names - {"model.safetensors"}:
        ours, theirs = (json.loads((tmp_path / who / name).read_text())
                        for who in ("ours", "theirs"))
        theirs.pop("transformers_version")
        assert ours == theirs, name
        derived = pretrained.configs_to_save(config, dtype)[name]
        assert derived == theirs, name            # without a file to carry on
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(again) is GPT2LMHeadModel and again.dtype == dtype
    assert torch.equal(logits(again), logits(hugging_face))
    first = GPT2LMHeadModel.from_pretrained(tmp_path / "theirs")
    assert again.generation_config == first.generation_config


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_own_model_comes_back(variant, tmp_path):
    torch.manual_seed(1)
    model = GPT2(replace(TINY, **VARIANTS[variant])).eval()
    save_pretrained(model, tmp_path / "new/folder")
    ours = load_pretrained(tmp_path / "new/folder")
    assert torch.equal(logits(ours), logits(model))
    assert replace(ours.config, extra={}) == model.config
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "new/folder")
    assert torch.allclose(logits(theirs), logits(model), atol=1e-5)


def test_unknown_fields_survive_and_stale_ones_do_not(state, tmp_path):
    extra = {"n_ctx": 16, "task_specific_params": {"x": {"y": 1}},
             "torch_dtype": "float16", "transformers_version": "4.1",
             "architectures": ["GPT2Model"], "dtype": "float16"}
    folder = write(tmp_path, state, **extra)
    save_pretrained(load_pretrained(folder), folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["n_ctx"] == 16
    assert config["task_specific_params"] == {"x": {"y": 1}}
    assert not {"torch_dtype", "transformers_version"} & config.keys()
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["dtype"] == "float32"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [TINY, UNTIED], ids=["tied", "untied"])
def test_into_the_directory_it_came_from(kind, config, state, tmp_path):
    tensors = dict(state)
    if config is UNTIED:
        tensors["lm_head.weight"] = state["wte.weight"] * 2
    folder = write(tmp_path, tensors, config, kind=kind)
    model = load_pretrained(folder)
    right = logits(model)
    for _ in range(3):
        save_pretrained(model, folder)
        assert torch.equal(logits(model), right)
        assert torch.equal(logits(load_pretrained(folder)), right)
    with torch.no_grad():
        model.wte.weight *= 0.5
    save_pretrained(model, folder)
    assert torch.equal(load_pretrained(folder).wte.weight,
                       state["wte.weight"] * 0.5)


@pytest.mark.parametrize("error", [OSError("No space left"),
                                   SafetensorError("No space left"),
                                   KeyboardInterrupt()])
def test_an_interrupted_save_changes_nothing(error, theirs, saved,
                                             monkeypatch):
    import safetensors.torch
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def stopped(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    torch.manual_seed(5)
    other = GPT2(replace(TINY, n_positions=20))
    monkeypatch.setattr(safetensors.torch, "save_file", stopped)
    with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
        save_pretrained(other, saved)
    if not isinstance(error, KeyboardInterrupt):
        assert "No space left" in str(caught.value)
        assert str(saved) in str(caught.value)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_saving_to_a_file(theirs, saved):
    model = load_pretrained(saved)
    for place in (saved / "config.json", saved / "config.json/deeper"):
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_pretrained(model, place)
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_tokenizer(tokenizer_of(["a b"]), place)


def test_a_model_that_no_file_should_hold(tmp_path):
    model = GPT2(TINY)
    model.ln_f.bfloat16()
    with pytest.raises(CheckpointError, match="several types"):
        save_pretrained(model, tmp_path)
    with torch.device("meta"):
        empty = GPT2(TINY)
    with pytest.raises(CheckpointError, match="wte.weight"):
        save_pretrained(empty, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_who_may_read_the_weights(theirs, saved, tmp_path):
    before = os.umask(0o022)
    try:
        save_pretrained(load_pretrained(saved), tmp_path / "ours")
    finally:
        os.umask(before)
    for path in (tmp_path / "ours").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path.name


def test_strided_parameters_are_written_right(theirs, state, tmp_path):
    model = GPT2(TINY).eval()
    model.load_state_dict(state)
    for block in model.h:
        block.mlp.c_fc.weight = torch.nn.Parameter(
            block.mlp.c_fc.weight.detach().T.contiguous().T)
    save_pretrained(model, tmp_path)
    assert torch.equal(logits(load_pretrained(tmp_path)), logits(theirs))


def vocabulary_grown(model):
    model.wte = torch.nn.Embedding(43, 12)


def blocks_cut(model):
    model.h = model.h[:1]


def blocks_added(model):
    model.h.append(GPT2(TINY).h[0])


def parametrized(model):
    torch.nn.utils.parametrizations.weight_norm(model.h[0].mlp.c_fc)


def low_rank(model):
    class Adapted(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.base_layer = layer
            self.lora_A = torch.nn.Linear(12, 2)
            self.lora_B = torch.nn.Linear(2, 12)

        def forward(self, x):
            return self.base_layer(x) + self.lora_B(self.lora_A(x))

    model.h[1].mlp.c_proj = Adapted(model.h[1].mlp.c_proj)


def pruned(model):
    from torch.nn.utils.prune import l1_unstructured
    l1_unstructured(model.h[1].attn.c_attn, "weight", amount=0.5)


def more_to_know(model):
    model.register_buffer("count", torch.zeros(1))


def old_mask(model):
    model.h[0].attn.register_buffer("bias", torch.ones(16, 16).tril())


def own_head(model):
    model.lm_head = torch.nn.Linear(12, 40, bias=False)


def whole_numbers(model):
    weight = model.ln_f.weight
    model.ln_f.weight = torch.nn.Parameter(weight.to(torch.int8),
                                           requires_grad=False)


def no_position(model):
    del model.wpe.weight


def other_state(model):
    class Norm(torch.nn.LayerNorm):
        def get_extra_state(self):
            return {"seen": 3}

    model.ln_f = Norm(12)


CHANGED = {
    vocabulary_grown: ["wte.weight", "(43, 12)", "(40, 12)", "model.config"],
    blocks_cut: ["h.1.ln_1.weight", "model.config"],
    blocks_added: ["h.2.", "model.config"],
    parametrized: ["h.0.mlp.c_fc.weight", "parametrization"],
    low_rank: ["h.1.mlp.c_proj.weight", "LoRA"],
    pruned: ["h.1.attn.c_attn.weight", "weight_orig", "pruning"],
    more_to_know: ["count", "no tensor of this GPT-2"],
    old_mask: ["h.0.attn.bias", "no tensor of this GPT-2"],
    own_head: ["lm_head.weight", "no tensor of this GPT-2"],
    whole_numbers: ["ln_f.weight is torch.int8"],
    no_position: ["no tensor wpe.weight (16, 12)"],
    other_state: ["ln_f._extra_state"],
}


def test_what_could_not_be_loaded_is_not_saved(theirs, saved, tmp_path):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    for change, fragments in CHANGED.items():
        model = load_pretrained(saved)
        change(model)
        for folder in (saved, tmp_path / "new"):
            with pytest.raises(CheckpointError) as caught:
                save_pretrained(model, folder)
            for fragment in fragments:
                assert fragment in str(caught.value), str(caught.value)
        assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
        assert not (tmp_path / "new").exists(), change.__name__


def test_a_model_and_its_config_changed_alike(saved, tmp_path):
    model = load_pretrained(saved)
    model.wte = torch.nn.Embedding(43, 12)
    model.h = model.h[:1]
    model.config = replace(model.config, vocab_size=43, n_layer=1)
    save_pretrained(model, tmp_path)
    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(theirs), logits(model), atol=1e-5)


def test_wrappers_come_off(theirs, saved, tmp_path):
    """Byte for byte the file of the plain model."""
    def one_block(model):
        model.h[1] = torch.compile(model.h[1])
        return model

    plain = load_pretrained(saved)
    folder = tmp_path / "ours"
    save_pretrained(plain, folder)
    wanted = {p.name: p.read_bytes() for p in folder.iterdir()}
    for wrap in (torch.compile, torch.nn.DataParallel, one_block,
                 lambda model: torch.nn.DataParallel(torch.compile(model)),
                 lambda model: torch.compile(torch.nn.DataParallel(model))):
        save_pretrained(wrap(load_pretrained(saved)), folder)
        found = {p.name: p.read_bytes() for p in folder.iterdir()}
        assert found == wanted
    assert torch.equal(logits(load_pretrained(folder)), logits(theirs))


@pytest.mark.parametrize("wrong", [
    None, torch.nn.Linear(2, 2), torch.nn.DataParallel(torch.nn.Linear(2, 2)),
    {"wte.weight": torch.zeros(2)}], ids=lambda x: type(x).__name__)
def test_saving_what_is_no_model_of_ours(wrong, tmp_path):
    with pytest.raises(CheckpointError, match="is no GPT2 of this book"):
        save_pretrained(wrong, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_saving_theirs_with_ours(theirs, tmp_path):
    with pytest.raises(CheckpointError, match="GPT2LMHeadModel is no GPT2"):
        save_pretrained(theirs, tmp_path / "new")


def test_shared_memory_is_saved_as_often_as_it_is_named(tmp_path):
    """An untied config says two matrices, whether or not they are one.
    transformers writes one, and reads a random second."""
    torch.manual_seed(0)
    model = GPT2(replace(UNTIED, n_positions=39)).eval()
    model.lm_head.weight = model.wte.weight                      # the same
    model.h[1].ln_2.weight = model.h[0].ln_1.weight
    model.wpe.weight = torch.nn.Parameter(model.wte.weight[1:])  # overlaps
    save_pretrained(model, tmp_path)
    ours = load_pretrained(tmp_path)
    ids = torch.arange(30)[None]
    assert torch.equal(logits(ours, ids), logits(model, ids))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(theirs, ids), logits(model, ids), atol=1e-5)
    memory = {p.data_ptr() for p in ours.parameters()}
    assert len(memory) == len([*ours.parameters()])


@pytest.mark.parametrize("kind", ["shards", "bin", "shards of bin"])
def test_saving_a_model_over_another_form(kind, theirs, state, tmp_path):
    """The one file that is written wins, for both readers."""
    other = reference_model(replace(TINY, n_layer=1), seed=3,
                            dtype=torch.bfloat16)
    if kind == "shards":
        other.save_pretrained(tmp_path, max_shard_size="1KB")
    else:
        write(tmp_path, other.state_dict(), kind="bin")
    if kind == "shards of bin":
        (tmp_path / "pytorch_model.bin").rename(tmp_path / "part.bin")
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({
            "weight_map": dict.fromkeys(other.state_dict(), "part.bin")}))
    model = GPT2(TINY).eval()
    model.load_state_dict(state)
    save_pretrained(model, tmp_path)
    ours = load_pretrained(tmp_path)
    assert torch.equal(logits(ours), logits(theirs))
    assert pretrained.stored_dtype(tmp_path, ours.config) == torch.float32
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(theirs))


# generation_config.json

STOPS = {"eos_token_id": [39, 7], "pad_token_id": 3, "bos_token_id": 0,
         "do_sample": True, "temperature": 0.7, "top_k": 5,
         "max_new_tokens": 3, "transformers_version": "4.40.0",
         "suppress_tokens": None, "note": {"ü": [1, None]}}


def with_generation(folder, content):
    data = content if isinstance(content, bytes) else json.dumps(
        content).encode()
    (folder / "generation_config.json").write_bytes(data)
    return folder


def test_generation_config_survives(saved, tmp_path):
    model = load_pretrained(with_generation(saved, STOPS))
    assert model.config.generation == STOPS
    model.config = replace(model.config, attn_pdrop=0.0)
    save_pretrained(model, tmp_path)
    found = json.loads((tmp_path / "generation_config.json").read_text())
    kept = {k: v for k, v in STOPS.items() if k != "transformers_version"}
    assert found == kept
    config = json.loads((tmp_path / "config.json").read_text())
    assert "generation" not in config and config["eos_token_id"] == 39
    assert load_pretrained(tmp_path).config.generation == kept
    (saved / "generation_config.json").unlink()
    assert load_pretrained(saved).config.generation == {}


@pytest.fixture(scope="module")
def talker(root, tmp_path_factory):
    """The shipped model, two prompts, and what it writes after the first."""
    folder = tmp_path_factory.mktemp("talker") / "nano"
    shutil.copytree(root / "checkpoints/nano", folder)
    tokenizer = load_tokenizer(folder)
    ids = torch.tensor([tokenizer.encode(text)
                        for text in ("import os", "import sys")])
    said = generate(load_pretrained(folder), ids, 16, eos_token_id=())
    return folder, ids, said[0, ids.shape[1]:].tolist()


@pytest.mark.parametrize("pad", [None, 7])
@pytest.mark.parametrize("stops, end", [
    ("at 7", 8), (["at 7"], 8), (["at 3", "at 7"], 4), ([4095, "at 7"], 8),
    (["at 7", 70_000], 8), (4095, 16), ([4095, 4094], 16), (70_000, 16),
    (None, 16)])
def test_stops_as_transformers_stops(stops, end, pad, talker):
    """On the same directory, without an argument."""
    folder, ids, said = talker
    places = {f"at {i}": said[i] for i in (3, 7)}
    eos = ([places.get(x, x) for x in stops] if isinstance(stops, list)
           else places.get(stops, stops))
    with_generation(folder, {"eos_token_id": eos, "pad_token_id": pad,
                             "do_sample": False, "max_new_tokens": 16})
    model = load_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    for prompt in (ids, ids[:1]):
        out = generate(model, prompt, 16)
        assert torch.equal(out, theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt)))
    assert out[0, 2:].tolist() == said[:end]             # the first prompt
    assert generate(model, ids, 16, eos_token_id=()).shape == (2, 18)
    again = folder.parent / "again"
    save_pretrained(model, again)
    assert generate(load_pretrained(again), ids[:1], 16).equal(out)


def test_the_command_stops_there_too(talker):
    folder, _, said = talker
    with_generation(folder, {"eos_token_id": [4095, said[7]],
                             "max_new_tokens": 2, "temperature": 0.0})
    words = [sys.executable, "-m", "gpt2", "sample", "--model", str(folder),
             "--prompt", "import os", "--greedy", "--max-new-tokens", "30"]
    out = subprocess.run(words, check=True, capture_output=True, text=True,
                         encoding="utf-8", cwd=Path(
                             pretrained.__file__).parent.parent).stdout
    wanted = load_tokenizer(folder).decode(said[:said.index(said[7])])
    assert out.removesuffix("\n").endswith("import os" + wanted)


@pytest.mark.parametrize("content, fragment", [
    (b"", "empty"), (b"{", "not JSON"), (b"[8]", "no JSON object"),
    (POINTER, "git lfs pull"), (b'{"a": 1, "a": 2}', "stands twice"),
    ({"eos_token_id": "8"}, "eos_token_id is '8'"),
    ({"eos_token_id": [8, "8"]}, "eos_token_id is [8, '8']"),
    ({"eos_token_id": 8.0}, "eos_token_id is 8.0"),
    ({"eos_token_id": True}, "eos_token_id is True"),
    ({"eos_token_id": [[8]]}, "eos_token_id is [[8]]"),
    ({"pad_token_id": [8]}, "pad_token_id is [8]"),
    ({"bos_token_id": {}}, "bos_token_id is {}")])
def test_generation_config_that_is_none(content, fragment, saved):
    refused(with_generation(saved, content), "generation_config.json",
            fragment)


def test_a_generation_config_that_links_to_nowhere(saved):
    (saved / "generation_config.json").unlink()
    (saved / "generation_config.json").symlink_to(saved / "gone")
    refused(saved, "generation_config.json", "cannot be opened")


def test_generation_config_is_fetched(cache, saved):
    from fnmatch import fnmatch
    into_cache(cache, "owner/model", with_generation(saved, STOPS))
    assert load_pretrained("owner/model").config.generation == STOPS
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "find_directory", lambda name, files, revision:
                      seen.append(list(files)) or Path("no such place"))
        pretrained.model_directory("owner/model")
    assert len(seen) == 2                # with safetensors, and with pickles
    for files in seen:
        assert any(fnmatch("generation_config.json", f) for f in files)


# Byte order marks, and devices

@pytest.mark.parametrize("name", ["config.json", "generation_config.json",
                                  "model.safetensors.index.json"])
def test_a_byte_order_mark(name, theirs, state, tmp_path):
    theirs.save_pretrained(tmp_path, max_shard_size="1KB")
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    ours = load_pretrained(tmp_path)
    assert torch.equal(logits(ours), logits(theirs))
    assert ours.config.eos_token_id == 39
    assert ours.config.generation["eos_token_id"] == 39


class NoFloat64(TorchFunctionMode):
    """Stands in for Apple's mps: what moves may not be of float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") == "to" and "mps" in map(str, args):
            if args[0].dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            args = tuple("cpu" if str(x) == "mps" else x for x in args)
        return func(*args, **kwargs)


def test_a_device_without_float64(state, theirs, tmp_path):
    tensors = {name: p.double() for name, p in state.items()}
    folder = write(tmp_path, tensors)
    with NoFloat64():
        refused(folder, "torch.float64", "mps", "dtype=torch.float32",
                device="mps")
        refused(folder, "torch.float64", "mps", device="mps",
                dtype=torch.float64)
        ours = load_pretrained(folder, device="mps", dtype=torch.float32)
    assert torch.equal(logits(ours), logits(theirs))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_a_head_beside_its_embedding_with_odd_numbers(value, state, tmp_path):
    """NaN is not equal to itself, yet the two matrices are the same."""
    table = state["wte.weight"].clone()
    table[3, 4] = value
    both = {**state, "wte.weight": table, "lm_head.weight": table.clone()}
    assert load_pretrained(write(tmp_path, both)).wte.weight[3, 4].equal(
        table[3, 4]) or value != value
    both["lm_head.weight"][3, 4] = 7.0
    refused(write(tmp_path, both), "lm_head.weight is not wte.weight")


# Names and the hub

@pytest.mark.parametrize("name", ["", " ", "a b", "../nowhere", "./nowhere",
                                  "/no/such/place", "one/two/three", "a\nb"])
def test_names_that_are_none(name):
    for load in (load_pretrained, load_tokenizer):
        with pytest.raises(CheckpointError, match="no directory and no name"):
            load(name)


def test_a_file_in_place_of_a_directory(saved):
    for load, path in product((load_pretrained, load_tokenizer),
                              (saved / "model.safetensors",
                               str(saved / "config.json"))):
        with pytest.raises(CheckpointError, match="give its directory"):
            load(path)


def test_a_directory_has_no_revision(saved):
    refused(saved, "revision", revision="main")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    import huggingface_hub.constants as constants
    assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def into_cache(cache, repo, folder, commit="1" * 40, ref="main"):
    """What a download leaves: blobs, and a snapshot of links to them."""
    place = cache / f"models--{repo.replace('/', '--')}"
    (place / "blobs").mkdir(parents=True, exist_ok=True)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / ref).write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for n, path in enumerate(sorted(folder.iterdir())):
        blob = place / "blobs" / f"{commit[:4]}{n}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_from_the_cache(cache, theirs, saved):
    into_cache(cache, "owner/model", saved)
    ours = load_pretrained("owner/model")
    assert torch.equal(logits(ours), logits(theirs))
    other = load_pretrained("owner/model", revision="1" * 40)
    assert torch.equal(logits(other), logits(theirs))
    refused("owner/model", "owner/model", "hub", revision="2" * 40)
    refused("owner/other", "owner/other", "hub", "network")


def test_a_short_name_is_pinned(cache, theirs, state, saved, tmp_path):
    repo, commit = HUB["gpt2"]
    into_cache(cache, repo, saved, commit, ref="old")
    moved = write(tmp_path / "moved", {k: v + 1 for k, v in state.items()})
    into_cache(cache, repo, moved, "3" * 40)
    assert torch.equal(logits(load_pretrained("gpt2")), logits(theirs))
    other = load_pretrained("gpt2", revision="main")
    assert torch.equal(other.ln_f.bias, state["ln_f.bias"] + 1)
    refused("gpt2-xl", "openai-community/gpt2-xl")


def test_pickles_from_the_cache(cache, theirs, state, tmp_path):
    folder = write(tmp_path / "bin", state, kind="bin")
    into_cache(cache, "owner/model", folder)
    assert torch.equal(logits(load_pretrained("owner/model")), logits(theirs))


def test_safetensors_are_fetched_first(theirs, saved, monkeypatch):
    """A hub that has both forms is asked for one; one with pickles, twice."""
    import huggingface_hub
    asked = []

    def fetch(repo, revision, allow_patterns, local_files_only):
        asked.append((repo, revision, tuple(allow_patterns)))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    load_pretrained("owner/model", revision="v1")
    (repo, revision, patterns), = asked
    assert (repo, revision) == ("owner/model", "v1")
    assert {"config.json", "model.safetensors",
            "model.safetensors.index.json"} <= set(patterns)
    assert not any("bin" in pattern for pattern in patterns)
    (saved / "model.safetensors").unlink()
    asked.clear()
    refused("owner/model")
    assert len(asked) == 2 and "pytorch_model.bin" in asked[1][2]
    asked.clear()
    with pytest.raises(CheckpointError):
        load_tokenizer("gpt2-large")
    (repo, revision, patterns), = asked
    assert (repo, revision) == HUB["gpt2-large"]
    assert {"tokenizer.json", "vocab.json", "merges.txt"} <= set(patterns)


def test_patterns_fit_shards():
    from fnmatch import fnmatch
    seen = []
    original = pretrained.find_directory
    try:
        pretrained.find_directory = lambda name, files, revision: (
            seen.extend(files) or Path("no such place"))
        pretrained.model_directory("owner/model")
    finally:
        pretrained.find_directory = original
    for name in ("model-00001-of-00002.safetensors",
                 "pytorch_model-00001-of-00012.bin",
                 "model.safetensors.index.json",
                 "pytorch_model.bin.index.json"):
        assert any(fnmatch(name, pattern) for pattern in seen), name
    for name in ("onnx/model.onnx", "tf_model.h5", "optimizer.pt",
                 "training_args.bin", "rust_model.ot"):
        assert not any(fnmatch(name, pattern) for pattern in seen), name


def test_a_folder_called_gpt2(cache, theirs, saved, tmp_path, monkeypatch):
    """The checkout has one, and it is the package, not a checkpoint."""
    monkeypatch.chdir(tmp_path)
    Path("gpt2").mkdir()
    Path("gpt2/model.py").write_text("")
    refused("gpt2", "openai-community/gpt2", "hub")
    with pytest.raises(CheckpointError, match="openai-community/gpt2"):
        load_tokenizer("gpt2")
    shutil.copytree(saved, "gpt2", dirs_exist_ok=True)
    assert torch.equal(logits(load_pretrained("gpt2")), logits(theirs))


@pytest.mark.parametrize("error", [OSError("no route to host"), KeyError("x"),
                                   RuntimeError("two\nlines"), ValueError()])
def test_errors_of_the_hub(error, monkeypatch):
    import huggingface_hub

    def fetch(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    refused("owner/model", "owner/model", "not in the cache", "directory")
    monkeypatch.setattr(hub, "hub_answers", lambda repo: True)
    refused("owner/model", "owner/model", type(error).__name__, "directory")


def test_without_a_network_nothing_waits(cache, theirs, saved, monkeypatch):
    """The hub's library alone would try again for half a minute."""
    import huggingface_hub.constants as constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    import huggingface_hub
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    into_cache(cache, "owner/model", saved)
    start = time.perf_counter()
    assert torch.equal(logits(load_pretrained("owner/model")), logits(theirs))
    refused("owner/other", "not in the cache", "network")
    assert time.perf_counter() - start < 5


# Tokenizers

def tokenizer_of(texts, **kwargs):
    return Tokenizer.train(texts, 300, **kwargs)


TEXTS = ["A robot must obey", " two  spaces\n\n tabs\t", "", "naïve 你好 🤖",
         "stop<|endoftext|>go <|endoftext|>", "it's 2+2 ## don't", "\nx",
         "\u00a0nbsp\u2003em", "<|endoftext|"]


@pytest.fixture(scope="module")
def nano(root):
    return Tokenizer.load(root / "checkpoints/nano")


@pytest.fixture
def their_tokenizer(root, tmp_path):
    theirs = GPT2Tokenizer.from_pretrained(root / "checkpoints/nano")
    theirs.save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def same_ids(ours, theirs, texts=TEXTS):
    assert [ours.encode(t) for t in texts] == theirs(texts)["input_ids"]
    for text in texts:
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids)


def test_tokenizer_of_transformers(their_tokenizer, nano):
    ours = load_tokenizer(their_tokenizer)
    same_ids(ours, AutoTokenizer.from_pretrained(their_tokenizer))
    assert ours.vocab == nano.vocab and ours.merges == nano.merges
    assert ours.special_tokens == ("<|endoftext|>",)


@pytest.mark.parametrize("space", [False, True])
@pytest.mark.parametrize("hidden", [(), ("tokenizer.json",),
                                    ("vocab.json", "merges.txt")])
def test_our_tokenizer_in_theirs(space, hidden, nano, tmp_path):
    ours = Tokenizer(nano.vocab, nano.merges, add_prefix_space=space)
    save_tokenizer(ours, tmp_path, model_max_length=64)
    assert {p.name for p in tmp_path.iterdir()} == {
        "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
    for name in hidden:
        (tmp_path / name).unlink()
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    same_ids(ours, theirs)
    assert theirs.eos_token == "<|endoftext|>"
    assert theirs.model_max_length == 64 and len(theirs) == len(ours)
    again = load_tokenizer(tmp_path)
    assert again.add_prefix_space == space
    same_ids(again, theirs)


def test_our_tokenizer_json_in_tokenizers(nano, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    for space in (False, True):
        ours = Tokenizer(nano.vocab, nano.merges, add_prefix_space=space)
        save_tokenizer(ours, tmp_path)
        rust = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in TEXTS:
            assert rust.encode(text).ids == ours.encode(text)


def test_several_special_tokens(tmp_path):
    special = ("<|the_end|>", "<|pad|>", "<|pad|><|sep|>")
    ours = tokenizer_of(["a robot, a robot"], special_tokens=special)
    texts = ["a<|pad|>b", "<|pad|><|sep|>x<|the_end|>", "<|pad|><|sep|"]
    save_tokenizer(ours, tmp_path)
    for hidden in (None, "tokenizer.json"):
        if hidden:
            (tmp_path / hidden).unlink()
        again = load_tokenizer(tmp_path)
        assert again.special_tokens == special
        assert again.eos_token_id == ours.eos_token_id
        assert [again.encode(t) for t in texts] == [
            ours.encode(t) for t in texts]
        same_ids(ours, AutoTokenizer.from_pretrained(tmp_path), texts)


def test_no_special_token(tmp_path):
    ours = tokenizer_of(["a robot, a robot"], special_tokens=())
    save_tokenizer(ours, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.special_tokens == () and again.eos_token_id is None
    texts = ["a robot<|endoftext|>"]
    same_ids(ours, AutoTokenizer.from_pretrained(tmp_path), texts)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    assert load_tokenizer(tmp_path).encode(texts[0]) == ours.encode(texts[0])


def edit(folder, name, change):
    path = folder / name
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")
    return folder


@pytest.mark.parametrize("form", ["pairs", "strings"])
def test_both_forms_of_merges(form, their_tokenizer, nano):
    def change(data):
        merges = data["model"]["merges"]
        data["model"]["merges"] = [
            " ".join(pair) if form == "strings" else pair for pair in merges]
        if form == "strings":               # as the hub's gpt2: no type
            del data["model"]["type"], data["pre_tokenizer"]["use_regex"]
            del data["model"]["ignore_merges"]
            data["post_processor"] = {"type": "ByteLevel"}
            data["added_tokens"][0]["normalized"] = True
    edit(their_tokenizer, "tokenizer.json", change)
    assert load_tokenizer(their_tokenizer).merges == nano.merges


def set_in(part, **values):
    def change(data):
        data[part] = {**(data[part] or {}), **values}
    return change


@pytest.mark.parametrize("change, fragment", [
    (set_in("normalizer", type="Lowercase"), "normalizer"),
    (set_in("normalizer", type="NFC"), "normalizer"),
    (set_in("pre_tokenizer", type="Whitespace"), "pre_tokenizer.type"),
    (set_in("pre_tokenizer", type="Sequence"), "pre_tokenizer.type"),
    (set_in("pre_tokenizer", use_regex=False), "use_regex"),
    (lambda data: data.update(pre_tokenizer=None), "pre_tokenizer.type"),
    (lambda data: data.update(decoder=None), "decoder.type"),
    (set_in("decoder", type="WordPiece"), "decoder.type"),
    (set_in("model", type="WordPiece"), "model.type"),
    (set_in("model", type="Unigram"), "model.type"),
    (set_in("model", dropout=0.1), "model.dropout"),
    (set_in("model", ignore_merges=True), "ignore_merges"),
    (set_in("model", end_of_word_suffix="</w>"), "end_of_word_suffix"),
    (set_in("model", continuing_subword_prefix="##"), "subword_prefix"),
    (set_in("post_processor", type="RobertaProcessing"), "post_processor"),
    (set_in("post_processor", special_tokens={"x": {"id": "x"}}),
     "special_tokens"),
    (lambda data: data["added_tokens"][0].update(lstrip=True), "lstrip"),
    (lambda data: data["added_tokens"][0].update(rstrip=True), "rstrip"),
    (lambda data: data["added_tokens"][0].update(single_word=True),
     "single_word"),
    (lambda data: data["added_tokens"][0].update(id=3), "two ids"),
    (lambda data: data.pop("model"), ""),
    (lambda data: data.update(model=3), ""),
    (lambda data: data["model"].pop("vocab"), ""),
    (lambda data: data["model"].update(vocab=[1]), ""),
    (lambda data: data["model"]["vocab"].update(robot=4_200), "4200"),
    (lambda data: data["model"].update(merges=[["a", "b", "c"]]), ""),
    (lambda data: data["model"].update(merges=[3]), ""),
    (lambda data: data["model"]["merges"].append(["q", "ö"]), ""),
    (lambda data: data.update(added_tokens=None), "")])
def test_other_tokenizers_are_refused(change, fragment, their_tokenizer):
    edit(their_tokenizer, "tokenizer.json", change)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(their_tokenizer)
    assert fragment in str(caught.value), str(caught.value)
    assert str(their_tokenizer) in str(caught.value)


def test_tokenizer_json_wins(their_tokenizer, nano):
    tokenizer_of(["bbb ccc"]).save(their_tokenizer)
    ours = load_tokenizer(their_tokenizer)
    assert ours.vocab == nano.vocab
    same_ids(ours, AutoTokenizer.from_pretrained(their_tokenizer))


@pytest.mark.parametrize("full, settings", [(False, False), (False, True),
                                            (True, True), (True, False)])
def test_prefix_space_stated(full, settings, their_tokenizer):
    edit(their_tokenizer, "tokenizer.json",
         set_in("pre_tokenizer", add_prefix_space=full))
    edit(their_tokenizer, "tokenizer_config.json",
         lambda data: data.update(add_prefix_space=settings))
    ours = load_tokenizer(their_tokenizer)
    assert ours.add_prefix_space is settings
    same_ids(ours, AutoTokenizer.from_pretrained(their_tokenizer))


def test_prefix_space_unstated(their_tokenizer):
    edit(their_tokenizer, "tokenizer_config.json",
         lambda data: data.pop("add_prefix_space"))
    same_ids(load_tokenizer(their_tokenizer),
             AutoTokenizer.from_pretrained(their_tokenizer))
    edit(their_tokenizer, "tokenizer.json",
         set_in("pre_tokenizer", add_prefix_space=True))
    with pytest.raises(CheckpointError, match="add_prefix_space"):
        load_tokenizer(their_tokenizer)
    (their_tokenizer / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="add_prefix_space"):
        load_tokenizer(their_tokenizer)


@pytest.mark.parametrize("option", ["add_bos_token", "add_eos_token"])
def test_tokens_put_around_the_text(option, their_tokenizer):
    edit(their_tokenizer, "tokenizer_config.json",
         lambda data: data.update({option: True}))
    with pytest.raises(CheckpointError, match=option):
        load_tokenizer(their_tokenizer)


def test_entries_added_later(nano, tmp_path):
    """A folder as of 2020: the pair, added_tokens.json, a map of roles."""
    nano.save(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<|pad|>": 4096}')
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({
        "eos_token": "<|endoftext|>", "pad_token": {
            "content": "<|pad|>", "lstrip": False, "rstrip": False,
            "single_word": False, "normalized": True}}))
    ours = load_tokenizer(tmp_path)
    assert ours.encode("a<|pad|>b") == [
        *nano.encode("a"), 4096, *nano.encode("b")]
    assert ours.eos_token_id == 4095 and len(ours) == 4097
    (tmp_path / "added_tokens.json").write_text('{"<|pad|>": 4097}')
    with pytest.raises(CheckpointError, match="4097"):
        load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"a": 7}')
    with pytest.raises(CheckpointError, match="'a'"):
        load_tokenizer(tmp_path)


def test_a_role_without_an_entry(nano, tmp_path):
    save_tokenizer(nano, tmp_path)
    edit(tmp_path, "tokenizer_config.json",
         lambda data: data.update(pad_token="[PAD]"))
    with pytest.raises(CheckpointError, match=r"\[PAD\]"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json",
                                  "vocab.json", "merges.txt"])
@pytest.mark.parametrize("content, fragment", [
    (b"", "is empty"), (POINTER, "git lfs pull"), (b"<html>", "web page"),
    (b"\xff\xff", ""), (b"[1, 2]", ""), (b'{"a": ', "")])
def test_broken_tokenizer_files(name, content, fragment, nano, tmp_path):
    save_tokenizer(nano, tmp_path)
    if name in ("vocab.json", "merges.txt"):
        (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    assert name in str(caught.value) and fragment in str(caught.value)


OLD = {"special_tokens_map.json": {"eos_token": "<|endoftext|>",
                                   "additional_special_tokens": ["<user>"]},
       "added_tokens.json": {"<user>": 300}}


@pytest.mark.parametrize("left", [[], *([name] for name in OLD), [*OLD]])
@pytest.mark.parametrize("form", ["both", "pair"])
def test_a_tokenizer_over_another(left, form, nano, tmp_path):
    """Nothing of the one before is left, for us and for transformers."""
    save_tokenizer(tokenizer_of(["other words"], special_tokens=(
        "<|endoftext|>", "<user>")), tmp_path)
    for name in left:
        (tmp_path / name).write_text(json.dumps(OLD[name]))
    (tmp_path / "notes.json").write_text("mine")
    save_tokenizer(nano, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "tokenizer.json", "tokenizer_config.json", "vocab.json",
        "merges.txt", "notes.json"}
    if form == "pair":
        (tmp_path / "tokenizer.json").unlink()
    ours = load_tokenizer(tmp_path)
    assert ours.vocab == nano.vocab and ours.merges == nano.merges
    assert ours.special_tokens == nano.special_tokens
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    same_ids(ours, theirs)
    assert len(theirs) == len(nano)


@pytest.mark.parametrize("broken", ["write_json", "copyfile"])
def test_an_interrupted_tokenizer_changes_nothing(broken, nano, tmp_path,
                                                  monkeypatch):
    save_tokenizer(tokenizer_of(["other words"]), tmp_path)
    for name in OLD:
        (tmp_path / name).write_text("{}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def stopped(*args):
        raise OSError("No space left")

    owner = tokenizer_files if broken == "write_json" else shutil
    monkeypatch.setattr(owner, broken, stopped)
    with pytest.raises(CheckpointError, match="No space left"):
        save_tokenizer(nano, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_left_over_names_are_told(nano, tmp_path):
    """Files of two tokenizers, mixed by hand: the message says so."""
    save_tokenizer(nano, tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps(OLD["special_tokens_map.json"]))
    for hidden in (None, "tokenizer.json"):
        if hidden:
            (tmp_path / hidden).unlink()
        with pytest.raises(CheckpointError) as caught:
            load_tokenizer(tmp_path)
        said = str(caught.value)
        assert "'<user>'" in said and "special_tokens_map.json" in said
        assert "special_tokens=" not in said and str(tmp_path) in said


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("older, newer", [
    ({"eos_token": "import"}, {}), ({"eos_token": "import"},
                                    {"eos_token": None}),
    ({"pad_token": "import"}, {}), ({"pad_token": "import"},
                                    {"pad_token": "def"}),
    ({"eos_token": "import", "pad_token": "def"},
     {"eos_token": "def", "bos_token": "import"})])
def test_two_small_files_in_conflict(listed, older, newer, nano, tmp_path):
    """special_tokens_map.json against tokenizer_config.json, as
    transformers decides: the map, unless the other lists the tokens."""
    save_tokenizer(nano, tmp_path)

    def change(data):
        for name, value in newer.items():
            data.pop(name) if value is None else data.update({name: value})
        if listed:
            data["added_tokens_decoder"] = {"4095": {
                "content": "<|endoftext|>", "lstrip": False, "rstrip": False,
                "single_word": False, "normalized": False, "special": True}}

    edit(tmp_path, "tokenizer_config.json", change)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(older))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(
        tmp_path)
    wanted = json.loads((tmp_path / "tokenizer_config.json").read_text())
    if not listed:
        wanted |= older
    if wanted.get("eos_token"):
        assert theirs.eos_token == wanted["eos_token"]
        assert ours.eos_token_id == theirs.eos_token_id
    same_ids(ours, theirs, ["import def", "x<|endoftext|>import"])


@pytest.mark.parametrize("form", ["tokenizer.json", "pair"])
def test_trained_without_the_byte_alphabet(form, tmp_path):
    """tokenizers drops a byte without an entry, silently; we refuse."""
    tokenizers = pytest.importorskip("tokenizers")
    text = "a robot Q"

    def train(**more):
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False)
        theirs.decoder = tokenizers.decoders.ByteLevel()
        theirs.train_from_iterator(
            ["a robot must obey"] * 9, tokenizers.trainers.BpeTrainer(
                vocab_size=300, show_progress=False,
                special_tokens=["<|endoftext|>"], **more))
        theirs.save(str(tmp_path / "tokenizer.json"))
        if form == "pair":
            theirs.model.save(str(tmp_path))
            (tmp_path / "tokenizer.json").unlink()
        return theirs.encode(text).ids, theirs

    ids, theirs = train()
    assert theirs.decode(ids) == "a robot "
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    said = str(caught.value)
    assert "of the 256 bytes" in said and "initial_alphabet" in said
    assert ".json" in said.split(" has no entry")[0]
    ids, _ = train(initial_alphabet=        # the remedy that is named there
                   tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert load_tokenizer(tmp_path).encode(text) == ids


MARK = b"\xef\xbb\xbf"
SMALL = {"tokenizer.json": None, "tokenizer_config.json": None,
         "special_tokens_map.json": b'{"pad_token": "<|endoftext|>"}',
         "added_tokens.json": b'{"<|pad|>": 4096}'}


@pytest.mark.parametrize("name", SMALL)
def test_a_byte_order_mark_in_a_tokenizer(name, nano, tmp_path):
    save_tokenizer(nano, tmp_path)
    if name == "added_tokens.json":
        (tmp_path / "tokenizer.json").unlink()
    path = tmp_path / name
    plain = SMALL[name] or path.read_bytes()
    found = []
    for content in (plain, MARK + plain):
        path.write_bytes(content)
        found.append(load_tokenizer(tmp_path))
    assert found[0].vocab == found[1].vocab
    assert found[0].special_tokens == found[1].special_tokens
    assert found[1].encode(TEXTS[0]) == nano.encode(TEXTS[0])


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_byte_order_mark_in_the_pair(name, nano, tmp_path):
    nano.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(MARK + path.read_bytes())
    ours = load_tokenizer(tmp_path)
    assert ours.vocab == nano.vocab and ours.merges == nano.merges


def test_no_tokenizer(saved, nano):
    with pytest.raises(CheckpointError, match="vocab.json"):
        load_tokenizer(saved)
    nano.save(saved)
    (saved / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match="merges.txt"):
        load_tokenizer(saved)


def test_gpt2s_own_tokenizer(gpt2_bpe, tmp_path):
    ours = load_tokenizer(gpt2_bpe)
    assert ours.encode("Hello world") == [15496, 995]
    assert ours.encode("## ###<|endoftext|>") == [2235, 44386, 50256]
    save_tokenizer(ours, tmp_path / "ours", model_max_length=1024)
    theirs = GPT2Tokenizer.from_pretrained(str(gpt2_bpe))
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_tokenizer(tmp_path / "theirs")
    assert again.vocab == ours.vocab and again.merges == ours.merges
    same_ids(ours, AutoTokenizer.from_pretrained(tmp_path / "ours"))


# Published checkpoints

@pytest.fixture(scope="session")
def published(root):
    folder = root.parent / "shared/data/models"
    if not folder.is_dir():
        pytest.skip("no published checkpoints in ../shared/data/models")
    return folder


def test_a_trained_model_that_sorts(published):
    """Six letters in, the same six sorted out, for all 3**6 inputs."""
    model = load_pretrained(published / "gpt-nano-sort")
    given = torch.tensor(list(product(range(3), repeat=6)))     # (729, 6)
    ids = given
    for _ in range(6):
        ids = torch.cat([ids, logits(model, ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(ids[:, 6:], given.sort(dim=1).values)


def test_a_published_model_with_old_fields(published, tmp_path):
    folder = published / "tiny-gpt2"
    model = load_pretrained(folder, dtype=torch.float64)
    for case in json.loads((folder / "expected.json").read_text())["cases"]:
        ids = torch.tensor([case["ids"]])
        last = logits(model, ids)[0, -1]
        wanted = torch.tensor(case["last_logits_first8"], dtype=torch.float64)
        assert torch.allclose(last[:8], wanted, rtol=0, atol=1e-7)
        assert abs(last.max().item() - case["last_logits_max"]) < 1e-7
        for _ in range(8):
            ids = torch.cat([ids, logits(model, ids)[:, -1:].argmax(-1)], 1)
        assert ids[0].tolist() == case["greedy8_ids"]
    save_pretrained(model.float(), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    first = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(theirs), logits(first))
    assert theirs.config.task_specific_params == (
        first.config.task_specific_params)


# With the network: pytest -m online tests/test_pretrained.py

@pytest.fixture
def network(monkeypatch):
    import huggingface_hub.constants as constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def greedy(model, ids, total):
    while len(ids) < total:
        last = logits(model, torch.tensor([ids]))[0, -1]
        ids = ids + [last.argmax().item()]
    return ids


@pytest.mark.online
@pytest.mark.parametrize("prompt, continuation", [
    ("Alan Turing theorized that computers would one day become",
     " the most powerful machines on the planet."),
    ("The dog", " was found in a field near the intersection of West and West"
                " Streets.\n\nThe dog")])
def test_the_real_gpt2_goes_on(network, prompt, continuation):
    model, tokenizer = load_pretrained("gpt2"), load_tokenizer("gpt2")
    start = tokenizer.encode(prompt)
    total = len(start) + len(tokenizer.encode(continuation))
    said = tokenizer.decode(greedy(model, start, total))
    assert said == prompt + continuation


@pytest.mark.online
def test_the_real_gpt2_is_theirs(network):
    model = load_pretrained("gpt2")
    assert greedy(model, [464, 3290], 20) == [
        464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688,
        290, 2688, 27262, 13, 198, 198, 464, 3290]
    folder = pretrained.model_directory("gpt2")
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(model), logits(theirs), rtol=1e-5, atol=1e-3)
    folder = find_directory("gpt2", tokenizer_files.TOKENIZER_FILES)
    same_ids(load_tokenizer("gpt2"), AutoTokenizer.from_pretrained(folder))


@pytest.mark.online
@pytest.mark.parametrize("name", HUB)
def test_the_pinned_revisions_exist(network, name):
    config = pretrained.read_config(find_directory(name, ["config.json"]))
    assert replace(config, extra={}) == GPT2Config(**PRESETS[name])


@pytest.mark.online
def test_names_that_the_hub_does_not_know(network):
    refused("openai-community/no-such-model", "no-such-model")
    refused("gpt2", "gpt2", revision="no-such-revision")
