"""vLLM: log-probabilities of targets alone where it can, of all of a prompt elsewhere."""

import base64
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.served.api import Api, as_losses, field
from probe.served.client import Client, RefusedError

GENERATE, COMPLETIONS = "/inference/v1/generate", "/v1/completions"
_PARAMETERS = {"max_tokens": 1, "temperature": 0, "detokenize": False}


class VLLM(Api):
    """vLLM, read in versions 0.32 and 0.33.

    Three ways are known, tried in this order: targets alone (``prompt_logprob_token_ids``), which
    needs the second model runner; every row of a prompt by the same route; and by that of
    completions, where the first is not open (``--enable-scale-out`` opens it). Cached prefixes are
    reused in the first way only: in the others rows would be missing, or were never written.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._lock = threading.Lock()
        self._way: Callable[[Sequence[int], int, bool], NDArray[np.float32]] = self._targets

    def losses(self, ids: Sequence[int], first: int, *, reuse: bool) -> NDArray[np.float32]:
        """See :class:`Api`."""
        while True:
            way = self._way
            try:
                return way(ids, first, reuse)
            except RefusedError as error:
                with self._lock:
                    if way != self._way:  # another request has found out meanwhile
                        continue
                    if error.status in (403, 404) and way != self._completions:
                        self._way, self.reuse = self._completions, False
                    elif error.status == 400 and way == self._targets:
                        self._way, self.reuse = self._rows, False
                    else:
                        raise

    def _targets(self, ids: Sequence[int], first: int, reuse: bool) -> NDArray[np.float32]:
        """Row i scores token start + i + 1, and there must be one for each of those to the end."""
        asked: dict[str, Any] = {
            "prompt_logprob_start": first - 1,
            "prompt_logprob_token_ids": [[token] for token in ids[first:]],
        }
        for skip in (False, True) if reuse else (True,):
            parameters = asked | {"skip_reading_prefix_cache": skip}
            found = self._generate(ids, parameters).get("prompt_token_id_logprobs")
            if found is not None:
                values = np.load(io.BytesIO(base64.b64decode(found)), allow_pickle=False)
                if values.shape != (len(ids) - first, 1):
                    raise ProbeError(
                        f"{self.client.url} gives rows of shape {values.shape}; allowed: "
                        f"({len(ids) - first}, 1)"
                    )
                return as_losses(values[:, 0].tolist(), len(ids) - first, self.client)
            # More of the text is cached than lies before the first row, and then all rows are gone.
        raise RefusedError(400, "no prompt_token_id_logprobs in the answer", self.client.url)

    def _rows(self, ids: Sequence[int], first: int, _reuse: bool) -> NDArray[np.float32]:
        """Row i belongs to token i."""
        return self._told(self._generate(ids, {"prompt_logprobs": 0}), ids, first)

    def _completions(self, ids: Sequence[int], first: int, _reuse: bool) -> NDArray[np.float32]:
        content = {"prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        answer = self.client.post(COMPLETIONS, content)
        return self._told(_choice(answer, self.client), ids, first)

    def _told(
        self, answer: Mapping[str, Any], ids: Sequence[int], first: int
    ) -> NDArray[np.float32]:
        rows = field(answer, "prompt_logprobs", self.client)
        if len(rows) != len(ids):
            raise ProbeError(
                f"{self.client.url} gives {len(rows)} rows of {len(ids)} tokens; allowed: one each"
            )
        own = [(row or {}).get(str(token)) for row, token in zip(rows, ids, strict=True)][first:]
        found = [one["logprob"] for one in own if one is not None]
        if len(found) != len(own):
            raise ProbeError(f"{self.client.url} gives rows of other tokens than it was sent")
        return as_losses(found, len(own), self.client)

    def next_token(self, ids: Sequence[int]) -> tuple[int, float]:
        """See :class:`Api`; by the route of completions, whose log-probabilities carry the text."""
        content = {
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 0,
            "return_token_ids": True,
        }
        choice = _choice(self.client.post(COMPLETIONS, content), self.client)
        tokens = field(choice, "token_ids", self.client)
        told = field(field(choice, "logprobs", self.client), "token_logprobs", self.client)
        if len(tokens) != 1 or len(told) != 1 or told[0] is None:
            raise ProbeError(f"{self.client.url} gives no log-probability of the next token")
        return int(tokens[0]), float(told[0])

    def _generate(self, ids: Sequence[int], asked: Mapping[str, Any]) -> dict[str, Any]:
        content = {"token_ids": list(ids), "sampling_params": _PARAMETERS | dict(asked)}
        found = self.client.post(GENERATE, content)
        if not isinstance(found, dict):
            raise ProbeError(f"{self.client.url}: the answer is no object")
        return found


def _choice(answer: Any, client: Client) -> dict[str, Any]:
    choices = field(answer, "choices", client)
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ProbeError(f"{client.url}: the answer has no choice")
    return choices[0]
