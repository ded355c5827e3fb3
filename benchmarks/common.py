"""What every benchmark shares: its arguments' parser and its JSON report.

Importing it also makes the checkout's own packages importable, and keeps
transformers offline and quiet.
"""
import argparse
import json
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def parser(doc, preset="nano"):
    """A parser whose help is the script's docstring; has --preset."""
    made = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--preset", default=preset)
    return made


def processor():
    """The processor's name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(device="cpu"):
    """On what was measured."""
    import torch
    import transformers
    device = torch.device(device)
    name = (torch.cuda.get_device_name(device) if device.type == "cuda"
            else processor())
    return {"device": name, "threads": torch.get_num_threads(),
            "python": platform.python_version(), "torch": torch.__version__,
            "transformers": transformers.__version__}


def report(args, device="cpu", **measured):
    """Print arguments, machine and what was measured, as JSON."""
    given = {name: value for name, value in vars(args).items()
             if name != "child"}
    print(json.dumps(rounded({"arguments": given, "machine": machine(device),
                              **measured}), indent=2))


def rounded(value):
    """Every float inside, with four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
