"""The loop of a run: its updates, and all that stands around them."""
import math
from collections.abc import Callable
from dataclasses import dataclass

from gpt2.command_line.plots import plot_losses
from gpt2.command_line.progress import progress, report_evaluation, tell
from gpt2.command_line.runs import Interrupted, Log, Run, begin, save_run
from gpt2.data import Batches
from gpt2.generation import NotFinite
from gpt2.model import GPT2
from gpt2.resume import catching_signals
from gpt2.training import Engine, TrainingConfig, never, sample, updates


def train_run(model: GPT2, batches: Batches, config: TrainingConfig,
          engine: Engine, run: Run) -> list[dict]:
    """Train the model in place; return the rows of the log.

    Resumes from the run's newest checkpoint if it has one. Raises NotFinite,
    CheckpointError; Interrupted after Ctrl-C or SIGTERM, when all is saved.
    """
    engine.prepare(model, config)
    saved, log = begin(engine, batches, run)
    step, around = saved or 0, Around(engine, batches, run, log, saved)
    with catching_signals() as caught, progress(engine, step) as bar:
        def stop() -> bool:
            return engine.any(bool(caught))

        around.pause(step, stop)
        for update in updates(engine, batches, config, step, stop):
            log.add(**tell(update, bar, engine, run))
            step = update.step
            around.pause(step, stop)
        if stop():
            around.save(step)
            raise Interrupted(caught, run.again, step)
    if engine.rank == 0:
        plot_losses(run.directory)
    return log.rows


@dataclass
class Around:
    """What is done between two updates: evaluation, samples, checkpoints."""
    engine: Engine
    batches: Batches
    run: Run
    log: Log
    saved: int | None                # the update of the newest checkpoint

    def pause(self, step: int, stop: Callable[[], bool] = never) -> None:
        """What is due after this update and was not done yet. A checkpoint
        is due before the first one, so that a full disk shows at once."""
        config, last = self.engine.config, self.engine.config.steps
        if self.run.validation is not None and (
                step == last or step > 0 and step % config.eval_every == 0):
            self.evaluate(step, stop)
        if config.sample_every and (
                step == last or step % config.sample_every == 0):
            self.sample(step, stop)
        if step == last or step % config.save_every == 0:
            self.save(step)

    def evaluate(self, step: int, stop: Callable[[], bool] = never) -> None:
        """Log the held-out loss. Raises NotFinite for one that is none."""
        if self.log.has(step, "validation_loss"):
            return
        found = self.engine.evaluate(self.run.validation, self.run.tokenizer,
                                     stop)
        if found is None:
            return
        if not math.isfinite(found["loss"]):
            raise NotFinite(f"after update {step:,}: held-out loss"
                            f" {found['loss']}. Nothing more was saved. Lower"
                            " the learning rate.")
        self.log.add(step=step, **{f"validation_{key}": value
                                   for key, value in found.items()})
        report_evaluation(self.log, self.engine, self.run)

    def sample(self, step: int, stop: Callable[[], bool] = never) -> None:
        """Log a text that the model writes."""
        if not self.log.has(step, "sample") and not stop():
            self.log.add(step=step, prompt="", sample=sample(
                self.engine.model, self.run.tokenizer))

    def save(self, step: int) -> None:
        """Save, unless this state is saved already."""
        if step != self.saved:
            save_run(step, self.engine, self.batches, self.run)
            self.saved = step
