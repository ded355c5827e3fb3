"""What chapter 02 cannot hold: bulk comparisons, broken files, long words."""
import hashlib
import itertools
import json
import os
import pickle
import random
import re
import sys
import sysconfig
import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import gpt2.tokenizer as module
from gpt2.tokenizer import (SPLIT_PATTERN, Tokenizer, bytes_to_unicode,
                            learn_merges, pre_tokenize)

SENTENCE = "A robot must obey the orders given it"
IDS = [32, 3295, 65, 337, 975, 298, 1098, 88, 294, 1867, 82, 1181, 534]
END = "<|endoftext|>"


class Others:
    """The same two files in transformers, tokenizers and tiktoken."""

    def __init__(self, folder):
        import tiktoken
        from tokenizers import Tokenizer as Rust
        from tokenizers import decoders, models, pre_tokenizers
        from transformers import GPT2Tokenizer

        folder = Path(folder)
        self.hugging_face = GPT2Tokenizer.from_pretrained(str(folder))
        self.rust = Rust(models.BPE.from_file(str(folder / "vocab.json"),
                                              str(folder / "merges.txt")))
        self.rust.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=False)
        self.rust.decoder = decoders.ByteLevel()
        self.rust.add_special_tokens([END])
        ours = Tokenizer.load(folder)
        last = len(ours) - 1
        self.tiktoken = tiktoken.Encoding(
            folder.name, pat_str=SPLIT_PATTERN, special_tokens={END: last},
            mergeable_ranks={ours.token_bytes(i): i for i in range(last)})

    def encodings(self, texts):
        yield "transformers", self.hugging_face(texts).input_ids
        yield "tokenizers", [e.ids for e in self.rust.encode_batch(texts)]
        yield "tiktoken", self.tiktoken.encode_batch(
            texts, allowed_special="all", num_threads=1)


def assert_same(ours, others, texts):
    texts = list(texts)
    mine = ours.encode_batch(texts)
    for name, theirs in others.encodings(texts):
        for text, a, b in zip(texts, mine, theirs, strict=True):
            assert a == b, f"{name}: {text!r}: ours {a}, theirs {b}"
    for text, ids in zip(texts, mine):
        assert ours.decode(ids) == text


@pytest.fixture(scope="module")
def folder(root):
    return root / "checkpoints" / "nano"


@pytest.fixture(scope="module")
def nano(folder):
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def others(folder):
    return Others(folder)


@pytest.fixture(scope="module")
def freeze(root):
    sys.path.insert(0, str(root / "tools"))
    try:
        import freeze_tokenizer
    finally:
        sys.path.pop(0)
    return freeze_tokenizer


# Blocks whose characters have been assigned for many years, so that every
# Unicode version in question agrees on them; and some that never will be.
BLOCKS = [(0x00, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F),
          (0x391, 0x3A1), (0x410, 0x44F), (0x5D0, 0x5EA), (0x620, 0x64A),
          (0x660, 0x669), (0x915, 0x939), (0x966, 0x96F), (0x2000, 0x206F),
          (0x2150, 0x2182), (0x2190, 0x21FF), (0x2460, 0x24FF),
          (0x2600, 0x26FF), (0x3000, 0x303F), (0x3041, 0x3096),
          (0x4E00, 0x4EFF), (0xAC00, 0xACFF), (0xE000, 0xE0FF),
          (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0xFFFE, 0xFFFF),
          (0x1D7CE, 0x1D7FF), (0x1F300, 0x1F64F), (0x20000, 0x200FF),
          (0xE0020, 0xE007F), (0x10FFF0, 0x10FFFF)]
PIECES = [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\r", "\x00", "\x0b",
          "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u180e",
          "\u200b", "\u2028", "\u3000", "\ufeff", "'s", "'S", "'t", "'re",
          "'ve", "'m", "'ll", "'LL", "'d", "'", "''", "’t", "DON'T", "a", "I",
          "robot", " robot", "obey", "self", "__init__", "_", "1", "12345678",
          "0" * 30, "3.14", "½", "²", "Ⅷ", "٣", "一二三", "百萬", "〇", "ß",
          "ﬁ", "İ", "ı", "e\u0301", "\u0301", "ñ", "Ω", "робот", "רובוט",
          "مرحبا", "हिन्दी", "ไทย", "한국어", "日本語", "ロボット", "🤖", "👍🏽",
          "👩\u200d👩\u200d👧", "🏳️\u200d🌈", "🇩🇪", "\u200d", "\u200f",
          "\u0378", "\U0010ffff", "\ufffd", "\ufffe", "\U000e0001", END, "<|",
          "|>", "<|endoftext", "endoftext|>", "<|ENDOFTEXT|>", "##", "####",
          "#version: 0.2", "#", "\\n", "\\u0120", "Ġ", "Ċ", "---", "...",
          "():", "</s>", "%s", "{}", "\x7f"]


def hostile(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        text = []
        for _ in range(rng.randint(1, 14)):
            kind = rng.random()
            if kind < 0.6:
                text.append(rng.choice(PIECES))
            elif kind < 0.9:
                text.append(chr(rng.randint(*rng.choice(BLOCKS))))
            else:
                text.append(rng.choice(" \na1'") * rng.randint(1, 20))
        yield "".join(text)


# Encoding and decoding ------------------------------------------------------

def test_running_sentence(nano):
    assert nano.encode(SENTENCE) == IDS
    assert nano.decode(IDS) == SENTENCE
    assert (len(nano), nano.vocab_size, nano.eos_token_id) == (4096, 4096, 4095)
    assert nano.encode("") == [] and nano.decode([]) == ""


def test_hostile_strings(nano, others):
    assert_same(nano, others, hostile(6000, seed=1))


def test_all_pairs_of_pieces(nano, others):
    assert_same(nano, others, map("".join, itertools.product(PIECES, PIECES)))


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0",
                    reason="`regex` and the others agree up to Unicode 14")
def test_every_character(nano, others):
    chars = [chr(code) for code in range(0x110000) if unicodedata.category(
                 chr(code)) not in ("Cn", "Cs", "Co")]
    assert len(chars) > 140_000
    texts = [f"a{c}1{c} {c}b" for c in chars]
    mine = nano.encode_batch(texts)
    theirs = [e.ids for e in others.rust.encode_batch(texts)]
    wrong = [hex(ord(c)) for c, a, b in zip(chars, mine, theirs) if a != b]
    assert wrong == []


def test_files_of_the_standard_library(nano, others):
    """Each second file, 15 MB of real text; the library's own tests (tiktoken
    only) are hostile on purpose."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(library.rglob("*.py"))
             if not {"site-packages", "dist-packages"} & set(path.parts)][::2]
    assert len(files) > 500
    for start in range(0, len(files), 100):
        group, texts = files[start:start + 100], []
        for path in group:
            try:
                texts.append(path.read_bytes().decode("utf-8"))
            except UnicodeDecodeError:
                texts.append(path.read_bytes().decode("latin-1"))
        mine = nano.encode_batch(texts)
        assert [nano.decode(ids) for ids in mine] == texts
        assert mine == others.tiktoken.encode_batch(
            texts, allowed_special="all", num_threads=1)
        own = [n for n, path in enumerate(group)
               if not {"test", "tests"} & set(path.parts)]
        if own:
            theirs = others.hugging_face([texts[n] for n in own]).input_ids
            assert [mine[n] for n in own] == theirs


def test_decode_any_ids(nano, others):
    rng = random.Random(2)
    for _ in range(3000):
        ids = rng.choices(range(4096), k=rng.randint(0, 12))
        ids += rng.choices(range(256), k=rng.randint(0, 6))
        text = nano.decode(ids)
        assert text == others.hugging_face.decode(ids)
        assert text == others.tiktoken.decode(ids)
        assert text == b"".join(map(nano.token_bytes, ids)).decode(
            "utf-8", "replace")


def test_token_bytes(nano, others):
    for id in range(4095):
        assert nano.token_bytes(id) == others.tiktoken.decode_single_token_bytes(id)
    assert nano.token_bytes(4095) == END.encode()


def test_ids_may_be_a_tensor(nano):
    assert nano.decode(torch.tensor(IDS)) == SENTENCE
    assert nano.decode(iter(IDS)) == SENTENCE
    assert nano.decode(list(torch.tensor(IDS))) == SENTENCE


@pytest.mark.parametrize("kind", [np.int64, np.uint16, torch.tensor,
                                  lambda id: torch.tensor([id])])
def test_ids_may_be_whole_numbers_of_any_library(nano, kind):
    assert nano.decode(map(kind, IDS)) == SENTENCE
    assert nano.token_bytes(kind(32)) == b"A"
    with pytest.raises(ValueError, match="4096.* is outside"):
        nano.token_bytes(kind(4096))
    vocab = {token: kind(id) for token, id in nano.vocab.items()}
    ours = Tokenizer(vocab, nano.merges)
    assert ours.encode(SENTENCE) == IDS and ours.vocab == nano.vocab
    assert {type(id) for id in ours.encode(SENTENCE + END)} == {int}


@pytest.mark.parametrize("id", [True, np.bool_(True), torch.tensor(True),
                                32.0, np.float64(32), torch.tensor(32.0)])
def test_ids_that_are_no_whole_numbers(nano, id):
    for call in (nano.token_bytes, lambda id: nano.decode([id])):
        with pytest.raises(TypeError, match="must be an int, not (bool|float)"):
            call(id)
    with pytest.raises(ValueError, match="'A' has the id"):
        Tokenizer(nano.vocab | {"A": id}, nano.merges)


def test_decode_arrays(nano):
    assert nano.decode(np.array(IDS, dtype=np.uint16)) == SENTENCE
    with pytest.raises(TypeError, match="not bool"):
        nano.decode(torch.tensor([True]))


def test_special_tokens_can_be_split(nano, others):
    for text in [END, f"a{END}b", f"{END}{END}", f" {END} ", "<|endoftext|"]:
        plain = nano.encode(text, split_special_tokens=True)
        assert 4095 not in plain and nano.decode(plain) == text
        assert plain == others.tiktoken.encode_ordinary(text)
        assert plain == others.hugging_face(
            text, split_special_tokens=True).input_ids


def test_several_special_tokens(folder, nano):
    """Leftmost, and of those that begin together the longest, as in Rust."""
    from transformers import GPT2Tokenizer
    names = (END, "<|", "<|a|>", "<|a|><|b|>", "b", "[.*]")
    vocab = dict(nano.vocab)
    for name in names:
        vocab.setdefault(name, len(vocab))
    ours = Tokenizer(vocab, nano.merges, special_tokens=names)
    theirs = GPT2Tokenizer.from_pretrained(str(folder))
    theirs.add_special_tokens({"additional_special_tokens": list(names[1:])})
    rng = random.Random(3)
    for _ in range(500):
        text = "".join(rng.choices([*names, "a", " ", "|>", ".", "xby"], k=6))
        assert ours.encode(text) == theirs(text).input_ids, text
        assert ours.decode(ours.encode(text)) == text


def test_add_prefix_space(folder):
    from transformers import GPT2Tokenizer
    ours = Tokenizer.load(folder, add_prefix_space=True)
    theirs = GPT2Tokenizer.from_pretrained(str(folder), add_prefix_space=True)
    for text in ["", " ", "a", " a", "\na", "\ta", f"{END}a", f"a{END} b{END}c",
                 f"{END}{END}", "\u3000a", *hostile(500, seed=4)]:
        assert ours.encode(text) == theirs(text).input_ids, text


def test_batch(nano):
    texts = list(hostile(50, seed=5))
    assert nano.encode_batch(iter(texts)) == [nano.encode(t) for t in texts]
    assert nano.encode_batch([]) == []


@pytest.mark.parametrize("text, position", [
    ("\ud800", 0), ("abc\udfff", 3), ("\ud83e\udd16", 0),
    (f"a{END}\ud800 b", 14), ("x" * 200_000 + " \udc80", 200_001)])
def test_lone_surrogates(nano, text, position):
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        nano.encode(text)


@pytest.mark.parametrize("bad", [None, 5, b"bytes", ["a"], bytearray(b"a")])
def test_only_text_is_encoded(nano, bad):
    with pytest.raises(TypeError, match=type(bad).__name__):
        nano.encode(bad)
    with pytest.raises(TypeError):
        nano.encode_batch([bad])


def test_one_string_is_no_batch(nano):
    with pytest.raises(TypeError, match="several texts"):
        nano.encode_batch("robot")
    with pytest.raises(TypeError, match="texts must be a list"):
        Tokenizer.train("robot", 300)


@pytest.mark.parametrize("ids, error, word", [
    ([4096], ValueError, "4096"), ([0, -1], ValueError, "-1"),
    ([2 ** 70], ValueError, "outside"), ([1.0], TypeError, "float"),
    (["a"], TypeError, "str"), ([[1]], TypeError, "list"),
    ([None], TypeError, "NoneType"), (torch.tensor([[1]]), TypeError, "list"),
    (torch.tensor([1.5]), TypeError, "float"), (5, TypeError, "int")])
def test_ids_outside_the_vocabulary(nano, ids, error, word):
    with pytest.raises(error, match=re.escape(word)):
        nano.decode(ids)


# Long words, long texts, memory ---------------------------------------------

@pytest.mark.parametrize("letters", ["a", "ab", " ", "=", "0123456789",
                                     "etaoinshrdlu", "🤖機", "\n\t "])
def test_a_word_of_a_megabyte(nano, letters):
    rng = random.Random(6)
    text = "".join(rng.choices(letters, k=1_000_000))
    start = time.process_time()
    ids = nano.encode(text)
    assert time.process_time() - start < 60, "seconds, not minutes"
    assert nano.decode(ids) == text


def test_long_words_equal_others(nano, others):
    rng = random.Random(7)
    texts = ["".join(rng.choices(letters, k=rng.randint(40, 3000)))
             for letters in ["a", "ab", "#", "=-", "etaoinshrdlu", " ", "ĠĊ日"]
             for _ in range(30)]
    texts += ["".join(rng.choices("abc", k=k)) for k in range(50, 80)]
    assert_same(nano, others, texts)


def test_work_grows_with_the_length(nano):
    """Twice the letters: twice the looks, not four times."""
    class Counting(dict):
        def get(self, *args):
            self.looks += 1
            return super().get(*args)

    words, rng = nano._words, random.Random(8)
    looks = []
    for n in [20_000, 40_000]:
        ids = [words.letters[b] for b in rng.choices(b"etaoins", k=n)]
        ranks = Counting(words.ranks)
        ranks.looks = 0
        module._merge_long(ids, ranks, words.products)
        looks.append(ranks.looks)
    assert looks[1] < 2.2 * looks[0]


def test_short_and_long_way_are_one(nano):
    words, rng = nano._words, random.Random(9)
    for n in [0, 1, 2, 3, *rng.choices(range(200), k=400)]:
        ids = [words.letters[b] for b in rng.choices(
            rng.choice([b"ab", b"# =", b"etaoins"]), k=n)]
        assert (module._merge_long(list(ids), words.ranks, words.products)
                == module._merge_short(list(ids), words.ranks, words.products))


def test_pieces_of_a_long_text():
    for text in hostile(300, seed=10):
        for size in [1, 2, 3, 7]:
            pieces = module._pre_tokenize_long(text, size)
            assert list(itertools.chain(*pieces)) == pre_tokenize(text)
    text = " ".join(hostile(20_000, seed=11))
    assert len(list(module._pre_tokenize_long(text))) > 5
    assert list(itertools.chain(*module._pre_tokenize_long(text))) == (
        pre_tokenize(text))


def test_memory_of_words_is_bounded(folder, nano, monkeypatch):
    small = Tokenizer.load(folder)
    monkeypatch.setattr(module._Words, "ROOM", 50)
    for text in hostile(500, seed=12):
        assert small.encode(text) == nano.encode(text)
        assert len(small._words) <= 50
    small.encode("x" * 1000)
    assert all(len(word) <= module._Words.LONG for word in small._words)


def test_callers_may_change_what_they_get(nano):
    first = nano.encode(" robot")
    first.append(0)
    assert nano.encode(" robot") == first[:-1]


def test_pickle(nano):
    nano.encode(SENTENCE)
    again = pickle.loads(pickle.dumps(nano))
    assert again.encode(SENTENCE) == IDS and again.decode(IDS) == SENTENCE


# Learning -------------------------------------------------------------------

def rust_merges(texts, vocab_size):
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers, trainers
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust = Rust(models.BPE())
    rust.pre_tokenizer = level
    rust.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=level.alphabet(),
        special_tokens=[END], show_progress=False))
    merges = json.loads(rust.to_str())["model"]["merges"]
    return [tuple(m) for m in merges], rust.get_vocab_size()


def assert_learns_the_same(texts, vocab_size):
    ours = Tokenizer.train(texts, vocab_size)
    theirs, size = rust_merges(texts, vocab_size)
    assert ours.merges == theirs and len(ours) == size
    assert list(ours.vocab) == [*bytes_to_unicode().values(),
                                *(a + b for a, b in ours.merges), END]
    return ours


@pytest.mark.parametrize("letters", ["a", "ab", "abc", "ab \n", "aé日🤖", "a#="])
def test_learns_as_tokenizers_on_few_letters(letters):
    """Few letters: many ties, long runs, pairs that overlap."""
    rng = random.Random(letters)
    for vocab_size in [257, 258, 265, 280, 400, 2000]:
        for _ in range(6):
            assert_learns_the_same(
                ["".join(rng.choices(letters, k=rng.randint(0, 150)))
                 for _ in range(rng.randint(1, 6))], vocab_size)


def test_learns_as_tokenizers_on_hostile_text():
    assert_learns_the_same(list(hostile(2000, seed=13)), 3000)


def test_learns_as_tokenizers_on_the_standard_library(freeze):
    texts = list(freeze.read(freeze.sources()))[::2]
    start = time.process_time()
    ours = assert_learns_the_same(texts, 8192)
    assert time.process_time() - start < 120
    assert len(ours) == 8192


def test_merges_of_a_long_word_are_learned_in_time():
    rng = random.Random(14)
    start = time.process_time()
    merges = learn_merges({"".join(rng.choices("acgt", k=300_000)): 1}, 1256)
    assert len(merges) == 1000 and time.process_time() - start < 60


def test_every_merge_makes_a_new_token():
    rng = random.Random(15)
    for _ in range(300):
        words = Counter("".join(rng.choices("aab", k=rng.randint(1, 20)))
                        for _ in range(6))
        merges = learn_merges(words, 10_000)
        assert len({a + b for a, b in merges}) == len(merges)
        assert len(merges) <= sum(map(len, words))


def test_texts_that_run_out_of_pairs():
    # A pair may be made and lost in one round: it must not come back later.
    assert learn_merges({"a" * 51: 1, "a" * 65: 1}, 1000)[-1] == (
        "a" * 32, "a" * 33)
    small = Tokenizer.train(["ab ab"], 4096)
    assert small.merges == [("a", "b"), ("Ġ", "ab")] and len(small) == 259
    assert Tokenizer.train([], 257).merges == []
    assert Tokenizer.train(iter(["abab"]), 258).merges == [("a", "b")]


def test_bad_training_input():
    with pytest.raises(ValueError, match="256 bytes and 1 special"):
        Tokenizer.train(["a"], 256)
    with pytest.raises(TypeError, match="text 1 must be a str, not bytes"):
        Tokenizer.train(["a", b"a"], 300)
    with pytest.raises(ValueError, match="text 1 has a lone surrogate.*position 2"):
        Tokenizer.train(["a", "ab\ud800"], 300)
    for special in [("a",), ("x", "x"), ("aa",)]:
        with pytest.raises(ValueError, match="differ"):
            Tokenizer.train(["aaa"], 300, special_tokens=special)
    with pytest.raises(TypeError, match="tuple"):
        Tokenizer.train(["a"], 300, special_tokens="<end>")


def test_the_size_of_a_vocabulary_is_a_whole_number():
    for size in (np.int64(258), torch.tensor(258)):
        assert Tokenizer.train(["abab"], size).merges == [("a", "b")]
    for size in (258.0, True, np.float32(258), torch.tensor(258.0), "258"):
        with pytest.raises(ValueError, match="vocab_size is .*whole number"):
            Tokenizer.train(["abab"], size)
    with pytest.raises(ValueError, match="special token '' is empty"):
        Tokenizer.train(["abab"], 300, special_tokens=(END, ""))


def test_training_other_special_tokens():
    chat = Tokenizer.train(["robot robot"], 300, special_tokens=["<e>", "<u>"])
    assert chat.eos_token_id == len(chat) - 2
    assert chat.encode("<u>robot<e>") == [
        len(chat) - 1, *chat.encode("robot"), len(chat) - 2]
    bare = Tokenizer.train(["robot"], 300, special_tokens=())
    assert bare.eos_token_id is None and bare.decode(bare.encode(END)) == END


# Files ----------------------------------------------------------------------

@pytest.fixture
def files(folder, tmp_path):
    """A copy of the frozen tokenizer to spoil."""
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_save_writes_the_same_bytes(folder, nano, tmp_path):
    home = tmp_path / "new" / "deep"
    for _ in range(2):
        nano.save(home)
        assert sorted(os.listdir(home)) == ["merges.txt", "vocab.json"]
        for name in os.listdir(home):
            assert (home / name).read_bytes() == (folder / name).read_bytes()
    assert Tokenizer.load(str(home)).encode(SENTENCE) == IDS


def test_what_we_train_and_save_others_load(tmp_path):
    texts = list(hostile(500, seed=16))
    ours = Tokenizer.train(texts, 700)
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.vocab == ours.vocab and again.merges == ours.merges
    assert_same(again, Others(tmp_path), hostile(300, seed=17))


def test_an_interrupted_save_leaves_the_old_file(nano, files, monkeypatch):
    before = {name: (files / name).read_bytes() for name in os.listdir(files)}

    def broken(*args):
        raise OSError("disk full")
    for name in ["replace", "getpid"]:
        with monkeypatch.context() as patch:
            patch.setattr(os, name, broken)
            with pytest.raises(OSError, match="disk full"):
                nano.save(files)
    with monkeypatch.context() as patch:
        def half(path, data):
            with open(path, "wb") as file:
                file.write(data[:100])
            raise OSError("disk full")
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="disk full"):
            nano.save(files)
    assert before == {name: (files / name).read_bytes()
                      for name in os.listdir(files)}


@pytest.mark.parametrize("change", [
    lambda b: b.replace(b"\n", b"\r\n"),
    lambda b: b.removesuffix(b"\n"),
    lambda b: b.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
    lambda b: b.split(b"\n", 1)[1],
    lambda b: b.replace(b"#version: 0.2", b"#version: 0.1 - trained anew"),
    lambda b: b"\xef\xbb\xbf" + b,
    lambda b: b"\xef\xbb\xbf" + b.split(b"\n", 1)[1].replace(b"\n", b"\r\n"),
], ids=["CRLF", "no final newline", "CRLF, no final newline", "no header",
        "other header", "byte order mark", "byte order mark, no header"])
def test_harmless_differences(files, nano, change):
    path = files / "merges.txt"
    path.write_bytes(change(path.read_bytes()))
    assert Tokenizer.load(files).merges == nano.merges


def test_a_byte_order_mark_is_no_part_of_the_vocabulary(files, nano):
    path = files / "vocab.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Tokenizer.load(files).vocab == nano.vocab
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())    # a second one
    with pytest.raises(ValueError, match="vocab.json is not JSON"):
        Tokenizer.load(files)


def test_only_a_version_line_is_a_header(files, nano):
    """A first line that begins with '#' is a merge like any other."""
    path = files / "merges.txt"
    hashes = [m for m in nano.merges if m[0].startswith("#")]
    assert len(hashes) == 6
    path.write_bytes("".join(f"{a} {b}\n" for a, b in hashes).encode())
    assert Tokenizer.load(files).merges == hashes
    path.write_bytes(b"# #\n#version: 0.2\n")
    with pytest.raises(ValueError, match="line 2.*#version:"):
        Tokenizer.load(files)


def test_a_file_without_merges(files):
    for text in ["", "#version: 0.2\n", "#version: 0.2"]:
        (files / "merges.txt").write_text(text)
        assert Tokenizer.load(files).encode("robot") == [81, 78, 65, 78, 83]


@pytest.mark.parametrize("lines, number, word", [
    (["#version: 0.2", "e r", "", "o r"], 3, "two tokens"),
    (["#version: 0.2", "e r", "o r", ""], 4, "two tokens"),
    (["#version: 0.2", "e r", "abc"], 3, "abc"),
    (["e r", "a b c"], 2, "a b c"),
    (["e  r"], 1, "two tokens"),
    (["#version: 0.2", " e r"], 2, "two tokens"),
    (["e r "], 1, "two tokens"),
    (["e\tr"], 1, "two tokens"),
    (["#version: 0.2", "e r", "q z"], 3, "'qz'"),
    (["#version: 0.2", "Zz e"], 2, "'Zz'"),
    (["e r", "o r", "e r"], 1, "twice"),
    (["#version: 0.2", "e r", "日 r"], 3, "日"),
])
def test_bad_merges(files, lines, number, word):
    for end in ["\n", "\r\n"]:
        (files / "merges.txt").write_bytes(
            (end.join(lines) + end).encode("utf-8"))
        with pytest.raises(ValueError) as caught:
            Tokenizer.load(files)
        assert f"merges.txt, line {number}:" in str(caught.value)
        assert word in str(caught.value)


def spoil(vocab, **changes):
    for token, id in changes.items():
        if id is None:
            del vocab[token]
        else:
            vocab[token] = id
    return json.dumps(vocab)


@pytest.mark.parametrize("text, word", [
    (lambda v: "", "is not JSON"),
    (lambda v: "{", "is not JSON"),
    (lambda v: '{\n"a": 0,\n}', "is not JSON"),
    (lambda v: "[" * 10 ** 6, "is not JSON"),
    (lambda v: '{"a":' * 10 ** 6, "is not JSON"),
    (lambda v: '{"a": ' + "1" * 10_000 + "}", "is not JSON"),
    (lambda v: '{"a": NaN}', "nan"),
    (lambda v: "[1, 2]", "object"),
    (lambda v: '[["a", 0]]', "object"),
    (lambda v: "5", "object"),
    (lambda v: '{"a": 0, "b": 1, "a": 2}', "'a' stands twice"),
    (lambda v: spoil(v, se=5), "5"),
    (lambda v: spoil(v, se=-1), "-1"),
    (lambda v: spoil(v, se=4096), "4096"),
    (lambda v: spoil(v, se="260"), "'260'"),
    (lambda v: spoil(v, se=260.0), "260.0"),
    (lambda v: spoil(v, se=True), "True"),
    (lambda v: spoil(v, se=[1]), "[1]"),
    (lambda v: spoil(v, se={"b": 1}), "se"),
    (lambda v: spoil(v, se=None), "4095"),
    (lambda v: spoil(v, a=None, qqq=64), "byte 97, 'a'"),
    (lambda v: spoil(v, **{END: None, "qqq": 4095}), END),
    (lambda v: spoil(v, se=None, **{"a b": v["se"]}), "'a b'"),
    (lambda v: spoil(v, se=None, **{"日": v["se"]}), "'日'"),
    (lambda v: spoil(v, se=None, **{"": v["se"]}), "''"),
])
def test_bad_vocabularies(files, nano, text, word):
    (files / "vocab.json").write_text(text(dict(nano.vocab)), "utf-8")
    with pytest.raises(ValueError) as caught:
        Tokenizer.load(files)
    assert "vocab.json" in str(caught.value) and word in str(caught.value)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_missing_and_unreadable_files(files, name, tmp_path):
    data = (files / name).read_bytes()
    (files / name).write_bytes(data[:50] + b"\xff" + data[50:])
    with pytest.raises(ValueError, match=f"{name}: .*utf-8"):
        Tokenizer.load(files)
    (files / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        Tokenizer.load(files)
    with pytest.raises(FileNotFoundError, match="vocab.json is missing"):
        Tokenizer.load(tmp_path / "no such folder")


def test_bad_parts_in_memory(nano):
    with pytest.raises(ValueError, match="merge 2.*'zq'"):
        Tokenizer(nano.vocab, [("e", "r"), ("z", "q")])
    with pytest.raises(ValueError, match="vocab: special token '<pad>'"):
        Tokenizer(nano.vocab, nano.merges, special_tokens=("<pad>",))
    with pytest.raises(TypeError, match="tuple"):
        Tokenizer(nano.vocab, nano.merges, special_tokens=END)
    for vocab in (nano.vocab, nano.vocab | {"": 4096}):
        with pytest.raises(ValueError, match="special token '' is empty"):
            Tokenizer(vocab, nano.merges, special_tokens=(END, ""))


def test_ranks_count_and_not_ids(nano, others):
    """The order of merges decides, even where the ids are in another order."""
    from tokenizers import Tokenizer as Rust
    from tokenizers import models
    rng = random.Random(18)
    ids = list(range(4096))
    rng.shuffle(ids)
    vocab = {token: ids[id] for token, id in nano.vocab.items()}
    ours = Tokenizer(vocab, nano.merges)
    rust = Rust(models.BPE(vocab, nano.merges))
    rust.pre_tokenizer = others.rust.pre_tokenizer
    rust.add_special_tokens([END])
    for text in hostile(500, seed=19):
        assert ours.encode(text) == rust.encode(text).ids
        assert ours.encode(text) == [ids[i] for i in nano.encode(text)]
    assert ours.eos_token_id == ids[4095]


# The frozen files -----------------------------------------------------------

def test_the_frozen_files_are_the_recorded_ones(folder, nano):
    readme = (folder / "README.md").read_text("utf-8")
    for name in ("vocab.json", "merges.txt"):
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() in readme
    assert len(nano.merges) == 3839
    tokens = [*bytes_to_unicode().values(),
              *(a + b for a, b in nano.merges), END]
    assert list(nano.vocab) == tokens and list(nano.vocab.values()) == list(
        range(4096))


def test_the_frozen_files_can_be_made_again(freeze, folder):
    """Where this Python has the sources that the frozen files came from."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit) as stop:
        freeze.main([])                            # never by accident
    assert stop.value.code == 1
    assert freeze.main(["--check"]) == 0
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_freezing(freeze, tmp_path, monkeypatch, capsys):
    some = list(freeze.sources())[:20]
    monkeypatch.setattr(freeze, "sources", lambda: some)
    monkeypatch.setattr(freeze, "VOCAB_SIZE", 600)
    to = ["--to", str(tmp_path)]
    assert freeze.main(to) == 0
    texts = list(freeze.read(some))
    assert freeze.same_sources(texts, tmp_path)
    assert not freeze.same_sources(texts[1:], tmp_path)
    assert len(Tokenizer.load(tmp_path)) == 600
    first = (tmp_path / "merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_text("spoiled")
    assert freeze.main(["--check", *to]) == 1
    with pytest.raises(SystemExit):
        freeze.main(to)
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "merges.txt").read_text() == "spoiled"
    assert freeze.main(["--force", *to]) == 0
    assert freeze.main(["--check", *to]) == 0
    assert (tmp_path / "merges.txt").read_bytes() == first


# GPT-2's own vocabulary, where it can be had --------------------------------

@pytest.fixture(scope="module")
def gpt2(gpt2_bpe):
    return Tokenizer.load(gpt2_bpe)


def test_known_ids_of_gpt2(gpt2):
    for text, ids in {
            "Hello world": [15496, 995], " Hello world": [18435, 995],
            "The dog": [464, 3290], "\n": [198], "\n\n": [628], " ": [220],
            "##": [2235], "## ###": [2235, 44386], END: [50256],
            SENTENCE: [32, 9379, 1276, 22389, 262, 6266, 1813, 340]}.items():
        assert gpt2.encode(text) == ids, text
    assert (len(gpt2), gpt2.eos_token_id) == (50257, 50256)
    assert sum(a.startswith("#") for a, _ in gpt2.merges) == 8


def test_gpt2_equals_others(gpt2, gpt2_bpe):
    theirs = Others(gpt2_bpe)
    assert_same(gpt2, theirs, hostile(6000, seed=20))
    assert_same(gpt2, theirs, map("".join, itertools.product(PIECES, PIECES)))


def test_gpt2_files_are_written_byte_for_byte(gpt2, gpt2_bpe, tmp_path):
    gpt2.save(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (gpt2_bpe / name).read_bytes()


def test_gpt2_on_a_megabyte(gpt2):
    rng = random.Random(21)
    text = "".join(rng.choices("etaoinshrdlu", k=1_000_000))
    start = time.process_time()
    assert gpt2.decode(gpt2.encode(text)) == text
    assert time.process_time() - start < 60


def test_tiny_shakespeare(gpt2, root):
    path = root.parent / "shared/data/shakespeare/input.txt"
    if not path.is_file():
        pytest.skip("no ../shared/data/shakespeare/input.txt")
    ids = gpt2.encode(path.read_bytes().decode("utf-8"))
    assert len(ids) == 338_025
