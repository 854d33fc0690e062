"""Requests to a server of a model: a few at once, tried again while it is away."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from probe.errors import ProbeError, UsageError
from probe.text import MOST, one_line

KEY = "PROBE_API_KEY"
"""Environment variable that holds the server's key; it is written nowhere."""
PATIENCE = 600.0
"""Seconds for which a server that is away, or busy, is tried again; ``AT_FIRST`` before it has ever
answered."""
AT_FIRST = 60.0
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
TIMEOUT = 600.0  # of one answer: a long prompt takes its time
_AWAY = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_LATER = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of what may go well a little later."""


class RefusedError(ProbeError):
    """The server answers, and will not do what it is asked for.

    Args:
        status: HTTP status.
        reason: What it says.
        where: The address.
    """

    def __init__(self, status: int, reason: str, where: str) -> None:
        super().__init__(f"{where} answers {status}: {reason}")
        self.status, self.reason = status, reason


class Client:
    """A server.

    Args:
        url: Its address, ``http://host:port``.
        patience: See ``PATIENCE``.
        say: Called with a line when it begins to be away.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = PATIENCE,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url, self.patience = url.rstrip("/"), patience
        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"{KEY} holds what no key holds; allowed: printable ASCII")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._answered, self._stopped = False, threading.Event()
        self._say = say
        limits = httpx.Limits(max_connections=None)  # the engine bounds how many there are
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT, limits=limits)

    def stop(self) -> None:
        """Let no request be tried again."""
        self._stopped.set()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def get(self, route: str) -> Any:
        """The JSON of a route."""
        return self._ask("GET", route)

    def post(self, route: str, content: Any) -> Any:
        """The JSON that a route answers with.

        Raises:
            RefusedError: If it refuses the request itself.
            ProbeError: If it is away for too long, or answers with no JSON.
        """
        return self._ask("POST", route, content)

    def _ask(self, method: str, route: str, content: Any = None) -> Any:
        where, started, tries = f"{self.url}{route}", time.monotonic(), 0
        while True:
            try:
                answer = self._http.request(method, where, json=content)
                if answer.status_code not in _LATER:
                    self._answered = True
                    return _read(answer, where)
                reason = f"{answer.status_code}: {_reason(answer)}"
            except _AWAY as error:  # no connection, no answer, half of one
                reason = one_line(error) or type(error).__name__
            except httpx.HTTPError as error:
                raise ProbeError(f"{where}: {one_line(error) or type(error).__name__}") from error
            patience = self.patience if self._answered else min(self.patience, AT_FIRST)
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if time.monotonic() + pause > started + patience or self._stopped.is_set():
                raise ProbeError(
                    f"{where} gave no answer for {patience:g} s, the last time: {reason}; what was "
                    "scored is kept: run the same command again to resume"
                )
            if not tries:
                self._say(f"{where}: {reason}; it is tried again for {patience:g} s")
            self._stopped.wait(pause)
            tries += 1


def _read(answer: httpx.Response, where: str) -> Any:
    if answer.is_success:
        try:
            return answer.json()
        except ValueError as error:
            raise ProbeError(
                f"{where} answers with no JSON: {one_line(answer.text, MOST)}"
            ) from error
    raise RefusedError(answer.status_code, _reason(answer), where)


def _reason(answer: httpx.Response) -> str:
    """What a server says of its refusal, in whichever form."""
    try:
        content = answer.json()
    except ValueError:
        return one_line(answer.text, MOST)
    said = content.get("error", content) if isinstance(content, dict) else content
    if isinstance(said, dict):
        said = said.get("message", said)
    return one_line(str(said), MOST)
