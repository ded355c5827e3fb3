"""Small things for tests: what can be trained in no time, odd shapes."""
import random

import torch

from gpt2.config import GPT2Config
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


def odd_config(seed):
    """A small legal configuration in which nothing is standard."""
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3, 5, 7])
    return GPT2Config(
        vocab_size=draw.randint(5, 300), n_positions=draw.randint(9, 40),
        n_embd=heads * draw.randint(1, 9), n_layer=draw.randint(1, 5),
        n_head=heads, n_inner=draw.choice([None, 1, 17, 64]),
        tie_word_embeddings=draw.random() < 0.5,
        scale_attn_weights=draw.random() < 0.5,
        scale_attn_by_inverse_layer_idx=draw.random() < 0.5,
        resid_pdrop=draw.choice([0, 0.0, 0.25, 1]), use_cache=False,
        layer_norm_epsilon=draw.choice([1e-5, 1e-6]),
        bos_token_id=draw.choice([None, 0]),
        eos_token_id=draw.choice([None, 1, [1, 2]]),
        pad_token_id=draw.choice([None, 3]))
