"""The two errors of the file layer."""


class DataError(ValueError):
    """A corpus, shard or state that cannot be used, and what to do."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written whole.

    The message names the file, the tensor if there is one, and a remedy.
    """
