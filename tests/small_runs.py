"""Small models, texts and runs for the tests of training and resuming."""
import signal

import pytest
import torch

from gpt2.command_line import loop
from gpt2.command_line.runs import Interrupted, Run
from gpt2.config import GPT2Config
from gpt2.data import Batches
from gpt2.model import GPT2
from gpt2.training import Engine, TrainingConfig, updates

MODEL = GPT2Config(vocab_size=4096, n_positions=32, n_embd=32, n_layer=2,
                   n_head=4, bos_token_id=4095, eos_token_id=4095)
CONFIG = TrainingConfig(steps=6, batch_size=4, micro_batch=2, length=32,
                        warmup=2, learning_rate=3e-3, dropout=0.1,
                        save_every=2, eval_every=3, eval_windows=3)


class Text:
    """Tokens in memory."""

    def __init__(self, n, seed=0, top=64):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(top, (n,), generator=generator)
        self.fingerprint = f"{n}, {seed}"

    def __len__(self):
        return len(self.ids)

    def window(self, start, length):
        assert 0 <= start and start + length <= len(self)
        return self.ids[start:start + length]


def new_model(config=MODEL, seed=0):
    torch.manual_seed(seed)
    return GPT2(config)


def new_batches(size=4, **kwargs):
    return Batches(Text(2000), size, 32, **kwargs)


def prepared(config=CONFIG, model=None, kind=Engine):
    engine = kind()
    engine.prepare(model or new_model(), config)
    return engine


def train(model, batches, config, engine=None, run=None):
    """The command's loop."""
    return loop.train_run(model, batches, config, engine or Engine(), run)


def losses(config=CONFIG, model=None, engine=None, stop=lambda: False):
    """Of the updates alone, nothing around them."""
    engine = engine or Engine()
    engine.prepare(model or new_model(), config)
    return [update.loss for update in updates(engine, new_batches(), config,
                                              stop=stop)]


def stop_at(step, run, tokenizer, number=signal.SIGTERM, config=CONFIG):
    """Train until this update, then a signal."""
    class Stopping(Engine):
        def update(self, rate):
            super().update(rate)
            self.done = getattr(self, "done", 0) + 1
            if self.done == step:
                signal.raise_signal(number)
    with pytest.raises(Interrupted) as caught:
        train(new_model(), new_batches(), config, Stopping(),
              Run(run, tokenizer, Text(300, 1)))
    assert caught.value.code == 128 + number
    return caught.value
