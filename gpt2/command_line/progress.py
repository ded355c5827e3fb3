"""What a run tells on its way: a bar on a terminal, lines in a log file."""
from datetime import timedelta
from itertools import takewhile

from tqdm import tqdm

from gpt2.command_line.runs import Log, Run
from gpt2.counting import flops_per_token
from gpt2.training import Engine, Update


def progress(engine: Engine, step: int) -> tqdm:
    """A bar over the updates; off where the output is no terminal."""
    return tqdm(total=engine.config.steps, initial=step, dynamic_ncols=True,
                disable=True if engine.rank else None, unit="update")


def tell(update: Update, bar: tqdm, engine: Engine, run: Run) -> dict:
    """The update as a row of the log, with MFU; show it on the bar.

    MFU: FLOPs that the model needs, per second and process, as a part of
    run.peak. 3 times the forward pass, of matrix products alone.
    """
    config, row = engine.config, update._asdict()
    speed = config.batch_size * config.length / update.seconds
    shown = {"loss": f"{update.loss:.3f}", "tok/s": f"{speed:,.0f}"}
    if run.peak:
        flops = 3 * flops_per_token(engine.model.config, config.length)
        row["mfu"] = round(speed * flops / engine.world / run.peak, 4)
        shown["MFU"] = f"{row['mfu']:.0%}"
    bar.set_postfix(shown, refresh=False)
    bar.update()
    return row


def report_evaluation(log: Log, engine: Engine, run: Run) -> None:
    """Tell run.report of the evaluation that the log ends with, and of the
    updates since the one before: mean loss, speed, time that is left."""
    *rows, found = log.rows
    since = takewhile(lambda row: "validation_loss" not in row,
                      reversed(rows))
    updates = [row for row in since if "loss" in row]
    if run.report is None or engine.rank or not updates:
        return
    config, step = engine.config, found["step"]
    loss, seconds = (sum(row[key] for row in updates) / len(updates)
                     for key in ("loss", "seconds"))
    speed = config.batch_size * config.length / seconds
    left = timedelta(seconds=round((config.steps - step) * seconds))
    run.report(f"update {step:,} of {config.steps:,}: loss {loss:.3f}, held"
               f" out {found['validation_loss']:.3f},"
               f" {found['validation_bits_per_byte']:.3f} bits per byte;"
               f" {speed:,.0f} tokens/s, {left} left")
