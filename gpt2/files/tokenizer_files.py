"""A tokenizer's files: GPT-2's pair, vocab.json and merges.txt, and all that
transformers writes beside it."""
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from gpt2.files.errors import CheckpointError
from gpt2.files.whole import (examine, read_json, write_json, write_text,
                              written_together)


def _read(path: Path) -> str:
    """The text of a UTF-8 file, or an error that names it. A byte order
    mark, which some editors put first, is no part of the text."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} is missing: a tokenizer is a folder"
                                " with vocab.json and merges.txt.") from None


def read_vocab(path: Path) -> dict[str, int]:
    """vocab.json: one object, token to id; the ids are not examined.

    ValueError, naming the file, for anything else.
    """
    text = _read(path)
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:      # bad, or too deep
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(pairs, tuple):             # an object becomes a tuple
        raise ValueError(f"{path}: expected one object of token: id.")
    if twins := Counter(t for t, _ in pairs) - Counter({t for t, _ in pairs}):
        raise ValueError(f"{path}: {twins.popitem()[0]!r} stands twice.")
    return dict(pairs)


def read_merges(path: Path) -> tuple[list[tuple[str, str]], int]:
    """(pairs, number of the first one's line) of merges.txt: two tokens a
    line, with one space between them.

    A header is the first line, if it begins with "#version", and no other
    line: tokens may begin with "#" too. Windows line ends are fine.
    """
    lines = _read(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    first = 2 if lines[0].startswith("#version") else 1
    merges = [tuple(line.split(" ")) for line in lines[first - 1:]]
    if merges == [("",)]:                        # a file without merges
        merges = []
    for number, pair in enumerate(merges, first):
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"{path}, line {number}: expected two tokens"
                             f" with one space between them, found"
                             f" {' '.join(pair)!r}.")
    return merges, first


def write_pair(directory: str | Path, vocab: Mapping[str, int],
               merges: Iterable[tuple[str, str]]) -> None:
    """Write vocab.json, by id, and merges.txt, each whole, as GPT-2's."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    by_id = dict(sorted(vocab.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *map(" ".join, merges), ""]
    write_text(Path(directory, "vocab.json"), json.dumps(by_id))
    write_text(Path(directory, "merges.txt"), "\n".join(lines))


# --- all files of a tokenizer, as transformers writes them ------------------
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt",
                   "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json")


def read_tokenizer(directory: Path, alphabet: Iterable[str],
                   load: Callable) -> dict:
    """vocab, merges, special_tokens and add_prefix_space of a directory.

    alphabet: the symbols of the 256 bytes, each of which needs an entry.
    Reads tokenizer.json, else vocab.json and merges.txt, with load(directory,
    special_tokens=...), which examines that pair. CheckpointError for a
    tokenizer that is not GPT-2's byte-level BPE.
    """
    path = directory / "tokenizer.json"
    settings = _settings(directory)
    named = _named_tokens(settings, directory)
    vocab, merges, added = (
        _read_whole(path, alphabet) if path.exists()
        else _read_pair(directory, alphabet, named, load))
    special = [name for name in named
               if name in vocab or name != "<|endoftext|>"] + added
    _require_entries(vocab, special, directory)
    return {"vocab": vocab, "merges": merges,
            "special_tokens": tuple(dict.fromkeys(special)),
            "add_prefix_space": _prefix_space(settings, path)}


_GPT2_FORM = {                   # what may stand there; None: left out
    "normalizer": (None,),
    "pre_tokenizer.type": ("ByteLevel",),
    "pre_tokenizer.use_regex": (None, True),
    "model.type": (None, "BPE"),
    "model.dropout": (None, 0),
    "model.continuing_subword_prefix": (None, ""),
    "model.end_of_word_suffix": (None, ""),
    "model.ignore_merges": (None, False),
    "post_processor.type": (None, "ByteLevel", "TemplateProcessing"),
    "post_processor.special_tokens": (None, {}),
    "decoder.type": ("ByteLevel",),
}


def _require_gpt2_form(data: dict, path: Path) -> None:
    """CheckpointError for a tokenizer that is not GPT-2's byte-level BPE."""
    for place, allowed in _GPT2_FORM.items():
        part, _, key = place.partition(".")
        found = (data.get(part) or {}).get(key) if key else data.get(part)
        if found not in allowed:
            raise CheckpointError(
                f"{path}: {place} is {found!r}; in GPT-2's it is"
                f" {allowed[-1]!r}. This tokenizer gives other ids than"
                " GPT-2's rules would, and is not read.")


def _require_alphabet(vocab: dict, alphabet: Iterable[str],
                      path: Path) -> None:
    """CheckpointError unless every byte has an entry."""
    lost = {*alphabet} - vocab.keys()
    if lost:
        raise CheckpointError(
            f"{path} has no entry for {len(lost)} of the 256 bytes,"
            f" {min(lost)!r} for one: it was trained without the byte"
            " alphabet, and some texts would have no ids. Train it again"
            " with initial_alphabet=ByteLevel.alphabet() (tokenizers).")


def _content(token, path: Path) -> str:
    """The text of a special token, a str or an object with options."""
    if isinstance(token, str):
        return token
    for option in ("lstrip", "rstrip", "single_word"):
        if token.get(option):
            raise CheckpointError(f"{path}: {token['content']!r} has"
                                  f" {option}, which is not supported.")
    return token["content"]


def _read_whole(path: Path,
                alphabet: Iterable[str]) -> tuple[dict, list, list]:
    """(vocab, merges, added tokens) of a tokenizer.json."""
    data = read_json(path)
    _require_gpt2_form(data, path)
    vocab = dict(data["model"]["vocab"])
    _require_alphabet(vocab, alphabet, path)
    merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair)
              for pair in data["model"]["merges"]]
    added = [_content(token, path) for token in data["added_tokens"]]
    for token, name in zip(data["added_tokens"], added):
        if vocab.setdefault(name, token["id"]) != token["id"]:
            raise CheckpointError(f"{path}: {name!r} has two ids,"
                                  f" {vocab[name]} and {token['id']}.")
    return vocab, merges, added


def _read_pair(directory: Path, alphabet: Iterable[str], named: list[str],
               load: Callable) -> tuple[dict, list, list]:
    """(vocab, merges, added tokens) of vocab.json and merges.txt."""
    vocab = read_json(directory / "vocab.json")
    _require_alphabet(vocab, alphabet, directory / "vocab.json")
    examine(directory / "merges.txt")
    known = tuple(name for name in named if name in vocab)
    pair = load(directory, special_tokens=known)
    more = directory / "added_tokens.json"
    added = read_json(more) if more.exists() else {}
    for name, id in added.items():
        if vocab.setdefault(name, id) != id:
            raise CheckpointError(f"{more}: {name!r} has the id {id}, in"
                                  f" vocab.json {vocab[name]}.")
    return pair.vocab | added, pair.merges, [*added]


_ROLES = ("eos_token", "bos_token", "unk_token", "pad_token", "sep_token",
          "cls_token", "mask_token")


def _settings(directory: Path) -> dict:
    """What the small files say. special_tokens_map.json has the last word,
    unless tokenizer_config.json lists all in `added_tokens_decoder`."""
    path = directory / "tokenizer_config.json"
    found = read_json(path) if path.exists() else {}
    older = directory / "special_tokens_map.json"
    if "added_tokens_decoder" not in found and older.exists():
        found |= read_json(older)
    if found.get("add_bos_token") or found.get("add_eos_token"):
        raise CheckpointError(
            f"{path}: add_bos_token and add_eos_token are not supported;"
            " GPT-2 adds nothing to a text. Put the token there yourself.")
    return found


def _named_tokens(settings: dict, directory: Path) -> list[str]:
    """Special tokens by name, the end of text first."""
    path = directory / "tokenizer_config.json"
    default = dict.fromkeys(_ROLES[:3], "<|endoftext|>")
    roles = {**default, **settings}
    found = [roles[role] for role in _ROLES if roles.get(role) is not None]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = settings.get(key) or []
        found += more.values() if isinstance(more, dict) else more
    found += (settings.get("added_tokens_decoder") or {}).values()
    return [*dict.fromkeys(_content(token, path) for token in found)]


def _prefix_space(settings: dict, path: Path) -> bool:
    """add_prefix_space; CheckpointError where two readers would differ."""
    stated = settings.get("add_prefix_space")
    if stated is None and path.exists() and (
            read_json(path)["pre_tokenizer"].get("add_prefix_space")):
        raise CheckpointError(
            f"{path} asks for add_prefix_space, and tokenizer_config.json is"
            " silent, which transformers reads as no. Say it there too.")
    return bool(stated)


def _require_entries(vocab: dict, special: list, directory: Path) -> None:
    """CheckpointError for a special token without an id."""
    for name in special:
        if name not in vocab:
            raise CheckpointError(
                f"{directory}: tokenizer_config.json or"
                f" special_tokens_map.json names {name!r}, which has no"
                " entry in the vocabulary. Are all files of one tokenizer?")


def write_tokenizer(directory: str | Path, parts: dict,
                    model_max_length: int | None = None) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json, merges.txt.

    parts: as `read_tokenizer` gives them. All files appear whole or not at
    all, and the two of older versions go: they speak of what was there
    before. Raises CheckpointError.
    """
    names, stale = TOKENIZER_FILES[:4], TOKENIZER_FILES[4:]
    with written_together(directory, names, stale) as (full, *pair, small):
        with TemporaryDirectory(prefix=".", dir=directory) as beside:
            write_pair(beside, parts["vocab"], parts["merges"])
            for name, path in zip(names[1:], pair):
                shutil.copyfile(Path(beside, name), path)
        write_json(full, whole_json(parts))
        write_json(small, settings_json(parts, model_max_length))


def whole_json(parts: dict) -> dict:
    """The content of tokenizer.json."""
    byte_level = {"type": "ByteLevel", "trim_offsets": True,
                  "use_regex": True}
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"),
                            False)
    vocab = parts["vocab"]
    special = sorted(parts["special_tokens"], key=vocab.get)
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocab[name], "content": name,
                          **options, "special": True} for name in special],
        "normalizer": None,
        "pre_tokenizer": byte_level | {
            "add_prefix_space": parts["add_prefix_space"]},
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab,
                  "merges": [" ".join(pair) for pair in parts["merges"]]}}


def settings_json(parts: dict, model_max_length: int | None) -> dict:
    """The content of tokenizer_config.json."""
    end, *more = parts["special_tokens"] or (None,)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": parts["add_prefix_space"],
        "bos_token": end, "eos_token": end, "unk_token": end,
        "pad_token": None, "errors": "replace",
        "clean_up_tokenization_spaces": False}
    if more:
        settings["additional_special_tokens"] = more
    if model_max_length is not None:
        settings["model_max_length"] = model_max_length
    return settings
