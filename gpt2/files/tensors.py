"""Tensors on disk: .safetensors, .bin, and shards of either with an index."""
import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from gpt2.files.errors import CheckpointError
from gpt2.files.whole import examine, read_json

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json",
                "pytorch_model.bin", "pytorch_model.bin.index.json")


# --- which files ------------------------------------------------------------
def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights: one, or all shards of an index."""
    for path in (directory / name for name in WEIGHT_FILES):
        if path.exists() or path.is_symlink():
            return shards(path) if path.suffix == ".json" else [path]
    others = sorted(p.name for p in directory.iterdir() if p.suffix in
                    (".h5", ".msgpack", ".gguf", ".onnx", ".safetensors",
                     ".bin", ".ckpt", ".pt", ".pth"))
    found = f", only {', '.join(others[:3])}" if others else ""
    raise CheckpointError(f"{directory} holds no {WEIGHT_FILES[0]} and no"
                          f" {WEIGHT_FILES[2]}{found}. Fetch one of them.")


def shards(index: Path) -> list[Path]:
    """The shards that an index names. CheckpointError if one is missing."""
    places = read_json(index).get("weight_map")
    if not places or not isinstance(places, dict) or not all(
            isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(f"{index} is no index of shards: it has no"
                              " weight_map of tensor to file. Fetch it"
                              " again.")
    for name, shard in places.items():
        if re.search(r"[/\\:]", shard) or shard in ("", ".", ".."):
            raise CheckpointError(
                f"{index} places {name} into {shard!r}, outside of its own"
                " directory. Refused; is the source to be trusted?")
        if not (index.parent / shard).exists():
            raise CheckpointError(f"{index} places {name} into {shard},"
                                  " which is missing. Fetch that file too.")
    return [index.parent / shard for shard in sorted(set(places.values()))]


# --- reading ----------------------------------------------------------------
def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file on the CPU, mapped; nothing in it is run.

    Raises CheckpointError. Pickles from before PyTorch 1.6 are not mapped.
    """
    from safetensors import safe_open
    start = examine(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        tensors = torch.load(path, map_location="cpu", weights_only=True,
                             mmap=start.startswith(b"PK"))
    except Exception as error:       # damaged bytes raise errors of any kind
        raise CheckpointError(f"{path} cannot be read: {_why(error, path)}."
                              " Fetch it again, from a source you trust."
                              ) from error
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path} holds {type(tensors).__name__}; it"
                              " must map names to tensors.")
    return tensors


def _why(error: Exception, path: Path) -> str:
    """What is wrong with a file, in our words where PyTorch's mislead."""
    asked = re.search(r"(?:GLOBAL|[Uu]nsupported class) ([\w.]+)", str(error))
    if asked:
        return f"it asks to call {asked[1]}, and nothing in it was run"
    if path.suffix == ".safetensors":
        return (str(error) or repr(error)).splitlines()[0]
    return "it is cut off, damaged, or no file of PyTorch"


def main_dtype(directory: Path) -> torch.dtype | None:
    """The type of most tensors in a directory's .safetensors, by the header
    alone: the weights are not read. None without such a file."""
    files = [*directory.glob("model.safetensors"),
             *sorted(directory.glob("model-*.safetensors"))]
    for path in files[:1]:
        kinds = Counter(x.dtype for x in read_tensors(path).values())
        return max(kinds, key=kinds.get, default=None)
    return None


# --- writing ----------------------------------------------------------------
def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """One .safetensors file, of the form that transformers reads."""
    from safetensors.torch import save_file
    save_file(tensors, path, metadata={"format": "pt"})


def own_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, contiguous, none in memory that another has."""
    taken, alone = [], {}
    for name, x in tensors.items():
        x = x.detach().contiguous()
        start = x.data_ptr()
        if any(start < end and first < start + x.nbytes
               for first, end in taken):
            x = x.clone()
            start = x.data_ptr()
        taken.append((start, start + x.nbytes))
        alone[name] = x
    return alone
