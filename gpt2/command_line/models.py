"""The model that a command is given: a directory, a name, a checkpoint."""
from pathlib import Path

import torch

from gpt2.model import GPT2
from gpt2.pretrained import load_pair, load_tokenizer
from gpt2.resume import read_model
from gpt2.tokenizer import Tokenizer


def is_checkpoint(name: str | Path) -> bool:
    """Is it a checkpoint of a run? These have a form of their own."""
    return Path(name, ".metadata").is_file()


def load_model(name: str | Path, device: str | torch.device = "cpu",
               dtype: torch.dtype | None = None) -> tuple[GPT2, Tokenizer]:
    """`load_pair` of whatever it is, the model ready to be used."""
    if not is_checkpoint(name):
        return load_pair(name, device=device, dtype=dtype)
    model = read_model(name).to(device=device, dtype=dtype).eval()
    return model, load_tokenizer(name)
