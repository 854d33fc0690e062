"""Sound as a data set holds it: samples of a clip, and the numbered frames that it is cut into.

A frame stands to a clip as a token to a text: frames of all clips are numbered through, and what
is done to tokens (cut off, shuffled, taken from another clip) is done to their numbers.
"""

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.alignment import NOWHERE
from probe.corpus.windows import Document
from probe.errors import UsageError
from probe.text import one_line, shown

ALLOWED = "a path, the bytes of a file, or {array, sampling_rate}"
_WIDTH = 2  # bytes of a sample that Python's own module reads here
_UNKNOWN = 0x7FFF0000 // _WIDTH  # samples from which on a header says that it was written too early
_PLACES = 6  # digits behind the point of seconds in an error
_CLOSE = 1e-6  # what rounding does to a whole number of frames
_LOUDEST = 8.0  # what was decoded from a lossy file may go beyond 1, whole numbers go far beyond


@dataclass(frozen=True, eq=False)
class Sound:
    """One clip.

    Args:
        samples: Between −1 and 1, shape ``(n,)``, float32.
        rate: Samples a second.
    """

    samples: NDArray[np.float32]
    rate: int


@dataclass(frozen=True)
class Hearing:
    """How a model reads sound.

    Args:
        rate: Samples a second.
        frame: Samples of a frame.
        longest: Samples that its encoder reads at once, ``None`` where nothing limits them.
    """

    rate: int
    frame: int
    longest: int | None

    @property
    def seconds(self) -> float:
        """How long a frame lasts."""
        return self.frame / self.rate


def read_sound(value: Any, *, column: str, document: str, folders: Sequence[Path]) -> Sound:
    """Read a clip as a column holds it.

    Args:
        value: A path, the bytes of a file, ``{array, sampling_rate}``, or ``{bytes, path}``. A WAV
            file of 16 bits is read as it is, any other file by the package ``soundfile``.
        column: Name of the column, for an error.
        document: Name of the document.
        folders: Where paths are seen from, the first that holds the file.

    Raises:
        UsageError: If it is something else, cannot be read, is empty, or has several channels.
    """
    where = f"data.audio_column: {shown(column)} of document {document!r}"
    if isinstance(value, Mapping) and value.get("array") is not None:
        samples, rate = _array(value["array"], where), value.get("sampling_rate")
        if type(rate) is not int or rate < 1:
            raise UsageError(
                f"{where} has the sampling_rate {shown(rate)}; allowed: samples a second"
            )
        return _checked(samples, rate, where)
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        value = _content(value, where, folders)
    if not isinstance(value, bytes):
        raise UsageError(f"{where} holds {shown(value)}; allowed: {ALLOWED}")
    return _checked(*_decoded(value, where), where)


def to_frames(sound: Sound, hearing: Hearing, document: str) -> Document:
    """Cut a clip into frames, the last filled up with silence.

    Args:
        sound: The clip.
        hearing: How the model reads it.
        document: Name of its document.

    Returns:
        A document whose ids number its frames from 0.

    Raises:
        UsageError: If the clip has another rate, or is longer than the encoder reads at once.
    """
    if sound.rate != hearing.rate:
        raise UsageError(
            f"the sound of document {document!r} has {sound.rate:,} samples a second; allowed: "
            f"{hearing.rate:,}, as the model reads (nothing is resampled)"
        )
    size = len(sound.samples)
    if hearing.longest is not None and size > hearing.longest:
        raise UsageError(
            f"the sound of document {document!r} lasts {_seconds(size, sound.rate)}; allowed: up "
            f"to {_seconds(hearing.longest, sound.rate)}, which the encoder reads at once"
        )
    count = -(-size // hearing.frame)
    samples = np.zeros(count * hearing.frame, dtype=np.float32)
    samples[:size] = sound.samples
    ids, none = np.arange(count, dtype=np.int32), np.empty(0, dtype=np.int32)
    frames = samples.reshape(count, hearing.frame)
    return Document(document, ids, None, none, none, frames=frames)


def numbered(documents: Sequence[Document]) -> list[Document]:
    """Documents whose sources number their frames through, in one table of all of them.

    Args:
        documents: Each with a source of sound, in an order that a larger sample begins with.
    """
    sources = [document.source for document in documents]
    tables = [one.frames for one in sources if one is not None and one.frames is not None]
    if not tables:
        return list(documents)
    table, first, found = np.concatenate(tables), 0, []
    for document, source in zip(documents, sources, strict=True):
        assert source is not None
        ids = np.arange(first, first + len(source.ids), dtype=np.int32)
        found.append(replace(document, source=replace(source, ids=ids, frames=table)))
        first += len(ids)
    return found


def read_seconds(
    value: Any, target: Document, words: NDArray[np.int64], *, length: int, frame: float, where: str
) -> NDArray[np.int64]:
    """Read when each word of a target is spoken.

    Args:
        value: A number of seconds for each word (of token ids, for each token), ``None`` for one
            that is not spoken.
        target: The target.
        words: The word of each of its tokens, shape ``(n,)``.
        length: Frames of the sound.
        frame: Seconds of a frame.
        where: What holds the value, for an error.

    Returns:
        The frame of each token, ``NOWHERE`` for none, shape ``(n,)``.

    Raises:
        UsageError: If it is something else.
    """
    text = target.text
    count, unit = (len(text.split()), "words") if text is not None else (len(words), "tokens")
    if not isinstance(value, list | tuple) or len(value) != count:
        raise UsageError(
            f"{where} holds {shown(value)}; allowed: a list of {count} numbers of seconds, one for "
            f"each of the target's {unit}"
        )
    places = np.array([_frame(entry, length, frame, where) for entry in value], dtype=np.int64)
    return places[words] if count else np.full(len(words), NOWHERE)


def _frame(entry: Any, length: int, frame: float, where: str) -> int:
    if entry is None:
        return NOWHERE
    is_number = isinstance(entry, int | float) and not isinstance(entry, bool)
    if not is_number or not 0 <= entry < length * frame:
        raise UsageError(
            f"{where} holds {shown(entry)}; allowed: null, or seconds from 0 to below "
            f"{round(length * frame, _PLACES):g}"
        )
    return min(int(entry / frame + _CLOSE), length - 1)  # 0.58 / 0.02 is 28.999…


def _content(path: str, where: str, folders: Sequence[Path]) -> bytes:
    """The content of the file of a path, seen from the first folder that has it."""
    try:
        file = next((one for folder in folders if (one := folder / path).is_file()), None)
        if file is not None:
            return file.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{where} names {shown(path)}: {one_line(error)}") from error
    seen = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise UsageError(f"{where} names {shown(path)}: there is no such file, seen from {shown(seen)}")


def _decoded(content: bytes, where: str) -> tuple[NDArray[np.float32], int]:
    """Samples, shape ``(n,)`` or ``(n, channels)``, and their rate."""
    if not content:
        raise UsageError(f"{where} is an empty file; allowed: a WAV file")
    try:
        with wave.open(io.BytesIO(content)) as stream:
            channels, width = stream.getnchannels(), stream.getsampwidth()
            if width == _WIDTH:
                told = stream.getnframes() * channels
                values = np.frombuffer(stream.readframes(stream.getnframes()), "<i2")
                if len(values) < told < _UNKNOWN:
                    raise UsageError(
                        f"{where} is cut off: {len(values):,} of {told:,} samples are there; "
                        "allowed: a whole file"
                    )
                samples = values.reshape(-1, channels).astype(np.float32) / np.float32(1 << 15)
                return samples, stream.getframerate()
            reason = f"its samples have {8 * width} bits"
    except UsageError:
        raise  # no other reader may take a part for the whole
    except (wave.Error, EOFError, ValueError) as error:
        reason = one_line(error) or "it is cut off"
    try:
        soundfile = import_module("soundfile")
    except (ImportError, OSError) as error:
        raise UsageError(
            f"{where} is no WAV file of 16 bits ({reason}); allowed: such files, and others with "
            "the package soundfile (extra sound)"
        ) from error
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        reason = one_line(getattr(error, "error_string", error))
        raise UsageError(f"{where} cannot be read as sound: {reason}") from error
    return samples, int(rate)


def _array(value: Any, where: str) -> NDArray[np.float32]:
    try:
        samples = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where} has the array {shown(value)}; allowed: numbers") from error
    return samples.T if samples.ndim == 2 and len(samples) < samples.shape[1] else samples


def _checked(samples: NDArray[np.float32], rate: int, where: str) -> Sound:
    if samples.ndim == 2 and samples.shape[1] == 1:
        samples = samples[:, 0]
    if samples.ndim == 0:
        raise UsageError(
            f"{where} has the array {shown(samples.item())}; allowed: a list of numbers"
        )
    if samples.ndim != 1:
        channels = samples.shape[-1]
        raise UsageError(f"{where} has {channels} channels; allowed: one (mono)")
    if not len(samples):
        raise UsageError(f"{where} is a sound without a sample; allowed: one that lasts")
    if not np.isfinite(samples).all():
        raise UsageError(f"{where} holds samples that are no number; allowed: finite ones")
    if (loudest := float(np.abs(samples).max())) > _LOUDEST:
        raise UsageError(f"{where} holds samples up to {loudest:g}; allowed: from -1 to 1")
    return Sound(np.ascontiguousarray(samples), rate)


def _seconds(samples: int, rate: int) -> str:
    return f"{round(samples / rate, _PLACES):g} s"
