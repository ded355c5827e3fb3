"""gpt2.config: what its chapter cannot hold. Bad input, odd shapes, sweeps."""
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from gpt2.config import (PRESETS, GPT2Config, GPT2Fields, config_from_dict,
                         config_to_dict, load_config, save_config)
from gpt2.counting import count_parameters
from gpt2.model import GPT2
from toys import odd_config


@pytest.mark.parametrize("name, wrong", [
    ("n_layer", "12"), ("n_layer", 12.0), ("n_layer", True), ("n_head", None),
    ("n_inner", 3072.0), ("n_inner", False), ("use_cache", 1),
    ("tie_word_embeddings", "false"), ("activation_function", None),
    ("resid_pdrop", "0.1"), ("attn_pdrop", True), ("attn_pdrop", None),
    ("bos_token_id", [0]), ("bos_token_id", "0"), ("eos_token_id", "end"),
    ("eos_token_id", [1, "end"]), ("eos_token_id", [True]),
    ("eos_token_id", (1, 2)), ("vocab_size", torch.tensor(4096)),
])
def test_wrong_types_are_named(name, wrong):
    with pytest.raises(TypeError, match=f"^{name} is .*must be "):
        GPT2Config(**{name: wrong})


@pytest.mark.parametrize("name, wrong", [
    ("vocab_size", 0), ("n_positions", -1), ("n_embd", 0), ("n_layer", 0),
    ("n_head", 0), ("n_head", -12), ("n_inner", 0), ("n_head", 7),
    ("n_embd", 770), ("resid_pdrop", -0.1), ("embd_pdrop", 1.1),
    ("attn_pdrop", float("nan")), ("summary_first_dropout", 2),
    ("layer_norm_epsilon", 0), ("layer_norm_epsilon", -1e-5),
    ("layer_norm_epsilon", float("nan")), ("initializer_range", -0.02),
    ("initializer_range", float("nan")), ("add_cross_attention", True),
    ("layer_norm_epsilon", float("inf")), ("initializer_range", float("inf")),
])
def test_wrong_values_are_named(name, wrong):
    with pytest.raises(ValueError, match=name):
        GPT2Config(**{name: wrong})


def test_extra_keeps_only_what_is_no_field():
    assert GPT2Config(extra={"n_ctx": 7}).extra == {"n_ctx": 7}
    for key in ("n_layer", "tie_word_embeddings", "model_type"):
        with pytest.raises(ValueError, match=key):
            GPT2Config(extra={key: 3})
    with pytest.raises(TypeError, match="extra"):
        GPT2Config(extra=["n_ctx"])
    odd = {"extra": 1, "generation": {"eos_token_id": "no file's"}}
    config = config_from_dict(odd)                  # keys like any other
    assert config.extra == odd and config.generation == {}
    assert config_to_dict(config).items() >= odd.items()


def test_generation_is_carried_and_checked():
    stops = {"eos_token_id": [3, 0], "pad_token_id": None, "top_k": "many"}
    config = GPT2Config(generation=stops)
    assert dataclasses.replace(config, n_layer=2).generation == stops
    assert config == GPT2Config()                   # the same model
    assert config_to_dict(config) == config_to_dict(GPT2Config())
    for name, wrong in (("eos_token_id", "8"), ("eos_token_id", [8, "8"]),
                        ("eos_token_id", True), ("eos_token_id", 8.0),
                        ("pad_token_id", [0]), ("bos_token_id", {})):
        with pytest.raises(TypeError, match=f"generation's {name} is"):
            GPT2Config(generation={name: wrong})
    with pytest.raises(TypeError, match="generation is"):
        GPT2Config(generation=[8])


@pytest.mark.parametrize("kind", [numpy.int8, numpy.int32, numpy.int64,
                                  numpy.uint16])
def test_whole_numbers_of_numpy(kind, tmp_path):
    config = GPT2Config(n_layer=kind(2), n_inner=kind(64),
                        resid_pdrop=kind(0), bos_token_id=kind(0),
                        eos_token_id=[kind(3), 0],
                        layer_norm_epsilon=numpy.float32(2**-10))
    assert config == GPT2Config(n_layer=2, n_inner=64, resid_pdrop=0,
                                bos_token_id=0, eos_token_id=[3, 0],
                                layer_norm_epsilon=2**-10)
    for f in dataclasses.fields(GPT2Fields):
        value = getattr(config, f.name)
        for item in value if type(value) is list else [value]:
            assert type(item) in (int, float, bool, str, type(None)), f.name
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config
    assert GPT2(dataclasses.replace(config, n_embd=kind(24))).h[1]


@pytest.mark.parametrize("wrong", [
    numpy.bool_(True), numpy.float64(2.0), numpy.float32(2.5),
    numpy.array([2]), numpy.array(2), torch.tensor(2)])
def test_what_numpy_has_besides_whole_numbers(wrong):
    with pytest.raises(TypeError, match="^n_layer is .*must be int"):
        GPT2Config(n_layer=wrong)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GPT2Config().n_layer = 3
    with pytest.raises(TypeError):
        GPT2Config(n_layers=3)                   # no such field


def test_defaults_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2Config()
    for f in dataclasses.fields(GPT2Fields):
        assert getattr(theirs, f.name) == getattr(GPT2Config(), f.name), f.name


def test_presets():
    totals = {name: sum(count_parameters(GPT2Config.from_preset(name))
                        .values()) for name in PRESETS}
    assert totals == {"gpt2": 124_439_808, "gpt2-medium": 354_823_168,
                      "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
                      "nano": 5_918_720}
    assert GPT2Config.from_preset("gpt2") == GPT2Config()
    assert GPT2Config.from_preset("nano", n_layer=2).n_layer == 2
    with pytest.raises(ValueError, match="gpt2-xl"):
        GPT2Config.from_preset("GPT2")
    with pytest.raises(ValueError, match="n_head"):
        GPT2Config.from_preset("gpt2", n_head=5)


@pytest.mark.parametrize("text, message", [
    ("", "not JSON"), ("{", "not JSON"), ("[1]", "no JSON object"),
    ("null", "no JSON object"), ('{"model_type": "bert"}', "bert"),
    ('{"model_type": null}', "None"), ('{"n_head": 5}', "n_head"),
    ('{"layer_norm_epsilon": NaN}', "layer_norm_epsilon"),
    ("[" * 100_000, "not JSON"), ('{"a": ' * 100_000, "not JSON"),
    ('{"n_head": 4, "n_head": 4}', "'n_head' stands twice"),
    ('{"extra": {"a": 1, "a": 2}}', "'a' stands twice"),
    (b"\xff\xfe{\0}\0", "not JSON"), (b"\xef\xbb\xbf", "not JSON"),
])
def test_files_that_are_no_gpt2_config(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        load_config(tmp_path)
    if "JSON" in message or "twice" in message:
        assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_text(tmp_path):
    config = GPT2Config(n_layer=2, extra={"note": "\ufeffü"})
    save_config(config, tmp_path)
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_config(path) == config              # one inside stays


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        load_config(tmp_path)
    with pytest.raises(FileNotFoundError):
        save_config(GPT2Config(), tmp_path / "no" / "config.json")


def test_general_names_win_as_in_transformers():
    names = {"hidden_size": 96, "num_attention_heads": 3,
             "num_hidden_layers": 5, "max_position_embeddings": 77}
    config = config_from_dict(names | {"n_embd": 768, "n_ctx": 9})
    assert (config.n_embd, config.n_head, config.n_layer,
            config.n_positions) == (96, 3, 5, 77)
    assert config.extra == {"n_ctx": 9}


@pytest.mark.parametrize("seed", range(20))
def test_round_trips_with_transformers(tmp_path, seed):
    transformers = pytest.importorskip("transformers")
    config = odd_config(seed)
    noted = dataclasses.replace(config, extra={"n_ctx": 5, "note": ["ü", {}]})
    save_config(noted, tmp_path / "config.json")
    assert load_config(tmp_path) == noted
    theirs = transformers.GPT2Config.from_pretrained(tmp_path)
    for name, value in config_to_dict(noted).items():
        assert getattr(theirs, name) == value, name
    theirs.save_pretrained(tmp_path)
    ours = load_config(tmp_path)
    assert dataclasses.replace(ours, extra={}) == config
    assert ours.extra["note"] == ["ü", {}]


def test_written_text_is_stable(tmp_path):
    file = tmp_path / "config.json"
    save_config(GPT2Config(initializer_range=1), file)
    first = file.read_bytes()
    save_config(load_config(file), file)
    assert file.read_bytes() == first and first.endswith(b"}\n")
    assert type(json.loads(first)["initializer_range"]) is float


def test_the_module_needs_nothing_installed():
    """Nor do the files below it; the package's own __init__ imports torch."""
    from gpt2 import config
    code = ("import sys, types; package = types.ModuleType('gpt2');"
            "package.__path__ = sys.argv[1:]; sys.modules['gpt2'] = package;"
            "import gpt2.config; sys.exit('torch' in sys.modules)")
    subprocess.run([sys.executable, "-S", "-c", code,
                    str(Path(config.__file__).parent)],
                   check=True, timeout=60)
