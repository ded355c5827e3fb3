"""No test needs the network; some need files that only a network brings."""
import os
import signal
from pathlib import Path

# Before anything imports torch or transformers.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1",
                  TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                  HF_HUB_DISABLE_TELEMETRY="1")

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and
# every process of theirs too; what is tested here is that it is heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
BPE_FILES = ("vocab.json", "merges.txt")


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def gpt2_bpe():
    """A folder with GPT-2's own vocab.json and merges.txt, or a skip.

    Looked for beside the checkout and in the Hugging Face cache.
    """
    for folder in (ROOT.parent / "shared/data/gpt2-bpe", *cached_snapshots()):
        if all((folder / name).is_file() for name in BPE_FILES):
            return folder
    pytest.skip("GPT-2's vocabulary is neither in ../shared/data/gpt2-bpe "
                "nor in the Hugging Face cache")


def cached_snapshots():
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    for name in ("models--openai-community--gpt2", "models--gpt2"):
        yield from sorted((cache / name / "snapshots").glob("*"))
