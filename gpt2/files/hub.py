"""Files of a repository on the hub, out of the cache where there is no net."""
from collections.abc import Iterable
from pathlib import Path

from gpt2.files.errors import CheckpointError


def hub_files(repo: str, files: Iterable[str], revision: str | None,
              name: str = "") -> Path:
    """The folder with these files of a repository, fetched if needed.

    files: names or patterns. name: what the caller asked for, for the error.
    CheckpointError where neither hub nor cache has them.
    """
    from huggingface_hub import snapshot_download
    online = hub_answers(repo)
    try:
        return Path(snapshot_download(
            repo, revision=revision, allow_patterns=list(files),
            local_files_only=not online))
    except Exception as error:       # no such name, no access, a full disk
        reason = (str(error).strip().splitlines() or [""])[0]
        reason = (f"could not be had from the hub: {type(error).__name__}:"
                  f" {reason}" if online else "is not in the cache, and the"
                  " hub was not reached.")
        raise CheckpointError(
            f"There is no directory {name or repo!r}, and {repo} {reason}"
            " Check the name and the network, or give a directory."
            ) from error


def hub_answers(repo: str) -> bool:
    """Whether the hub can be asked now; waits for 5 seconds at most."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    try:
        HfApi().model_info(repo, timeout=5)
    except HfHubHTTPError:           # an answer: no such model, no access
        return True
    except Exception:                # no network, or told not to use it
        return False
    return True
