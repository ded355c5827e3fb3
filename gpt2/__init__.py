"""GPT-2, exactly as the chapters of the book define it.

Every module is exported from the chapter of the same name; the packages
`gpt2.files`, below them, and `gpt2.command_line`, above them, are written by
hand. Importing this package imports torch and nothing heavier.
"""
from gpt2.attention import Attention
from gpt2.block import TransformerBlock
from gpt2.config import (PRESETS, GPT2Config, config_from_dict,
                         config_to_dict, load_config, save_config)
from gpt2.counting import count_parameters, flops_per_token, memory_bytes
from gpt2.conv1d import Conv1D
from gpt2.generation import (generate, left_pad, position_ids, stream,
                             stream_text)
from gpt2.feed_forward import FeedForward, gelu_new
from gpt2.kv_cache import KVCache
from gpt2.model import GPT2, GPT2Output, next_token_loss
from gpt2.pretrained import (CheckpointError, load_pretrained, load_tokenizer,
                             save_pretrained, save_tokenizer)
from gpt2.tokenizer import Tokenizer

__all__ = [
    "Attention", "CheckpointError", "Conv1D", "FeedForward", "GPT2",
    "GPT2Config", "GPT2Output", "KVCache", "PRESETS", "Tokenizer",
    "TransformerBlock", "config_from_dict", "config_to_dict",
    "count_parameters", "flops_per_token", "gelu_new", "generate",
    "left_pad", "load_config", "load_pretrained", "load_tokenizer",
    "memory_bytes", "next_token_loss", "position_ids", "save_config",
    "save_pretrained", "save_tokenizer", "stream", "stream_text",
]
