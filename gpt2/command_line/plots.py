"""The picture of a run's losses."""
from pathlib import Path

from gpt2.command_line.runs import LOG_FILE, read_rows
from gpt2.files.whole import written_whole


def plot_losses(run: str | Path) -> Path | None:
    """Draw loss.png of a run from its metrics; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = read_rows(Path(run, LOG_FILE))
    ax = Figure(figsize=(6, 4), dpi=150, layout="constrained").subplots()
    for key, label in (("loss", "training"),
                       ("validation_loss", "held-out")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            ax.plot(*zip(*points), label=label)
            ax.legend(frameon=False)
    ax.set(xlabel="updates", ylabel="loss, nats per token")
    path = Path(run, "loss.png")
    with written_whole(path) as beside:
        ax.figure.savefig(beside, format="png")
    return path
