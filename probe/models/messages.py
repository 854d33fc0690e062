"""What transformers warns of and raises, as lines that a user reads."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from probe.errors import ProbeError, UsageError
from probe.text import one_line


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what transformers warns of meanwhile, whatever its verbosity; each line once."""
    distinct: dict[str, None] = {}
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The report on a checkpoint's weights is read from the loading info instead.
            if record.funcName != "log_state_dict_report":
                distinct[" ".join(record.getMessage().split())] = None

    transformers.utils.logging.warning_once.cache_clear()  # once for each model, not for a process
    logger, handler = transformers.utils.logging.get_logger("transformers"), Collecting()
    before, level = logger.handlers[:], logger.level
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)
        lines += distinct


@contextmanager
def one_line_errors(path: str) -> Iterator[None]:
    """Turn what transformers raises into one line that names the model."""
    try:
        yield
    except ProbeError:
        raise
    except torch.OutOfMemoryError as error:
        raise ProbeError(f"model {path!r} does not fit the device's memory") from error
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError(f"model.path {path!r} cannot be loaded: {error_line(error)}") from error
    except Exception as error:  # broken files raise whatever their reader raises
        raise ProbeError(f"model.path {path!r} cannot be loaded: {error_line(error)}") from error


def error_line(error: Exception) -> str:
    """The first line of what a library says, with the next where it only announces that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = 2 if lines and lines[0].endswith(":") else 1
    return one_line(" ".join(lines[:count])) or type(error).__name__
