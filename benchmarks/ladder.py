"""Chapter 15's ladder of speed-ups at full size, on one device.

    python benchmarks/ladder.py                                  nano, on the CPU
    python benchmarks/ladder.py --preset gpt2 --device cuda -B 16 > runs/ladder.json

Each rung trains the same weights on the same tokens. Speed is that of the
fastest update, memory the peak of CUDA's allocator (on a CPU of the tensors
that eager code makes). JSON goes to stdout; chapter 15 prints what it finds
as runs/ladder*.json.
"""
import common                        # first: it says where gpt2 is
import torch

from gpt2.config import GPT2Config
from gpt2.model import GPT2
from gpt2.scaling import ladder, measure_rung
from gpt2.training import TrainingConfig


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-B", "--batch", type=int, default=4)
    parser.add_argument("-T", "--length", type=int, default=256)
    parser.add_argument("--updates", type=int, default=4)
    args = parser.parse_args()
    config = GPT2Config.from_preset(args.preset)
    torch.manual_seed(0)
    model = GPT2(config)
    ids = torch.randint(config.vocab_size, (args.batch, args.length))
    numbers = TrainingConfig(batch_size=args.batch, micro_batch=args.batch,
                             length=args.length)
    common.report(args, args.device, ladder=[
        measure_rung(rung, model, numbers, ids, args.device, args.updates)
        for rung in ladder(args.device)])


if __name__ == "__main__":
    main()
