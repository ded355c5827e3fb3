"""The smallest things that can be trained, for tests of engines and runs."""
import torch

from gpt2.tokenizer import Tokenizer, bytes_to_unicode

# One id for each byte, and <|endoftext|>.
TINY = dict(vocab_size=257, n_positions=32, n_embd=32, n_layer=2, n_head=4,
            bos_token_id=256, eos_token_id=256)


def byte_tokenizer():
    """Its ids are bytes; 256 stands between documents."""
    vocab = {c: i for i, c in enumerate(bytes_to_unicode().values())}
    return Tokenizer({**vocab, "<|endoftext|>": 256}, [],
                     special_tokens=("<|endoftext|>",))


class Text:
    """Random ids below 64 to learn, under the interface of Tokens."""

    def __init__(self, seed=1, n=3000):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(64, (n,), generator=generator)
        self.fingerprint = f"{n} ids, seed {seed}"

    def __len__(self):
        return len(self.ids)

    def window(self, start, length):
        return self.ids[start:start + length]
