"""SGLang's own route, ``/generate``: its radix cache is reused as far as no row is asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.served.api import Api, as_losses, field
from probe.served.client import RefusedError
from probe.text import shown


class SGLang(Api):
    """SGLang, read in version 0.5.23."""

    def losses(self, ids: Sequence[int], first: int, *, reuse: bool) -> NDArray[np.float32]:
        """See :class:`Api`; entry i of the answer belongs to token start + i, the first is null."""
        start = first - 1 if reuse else 0
        meta = self._generate(ids, start)
        rows = field(meta, "input_token_logprobs", self.client)
        if len(rows) != len(ids) - start:
            raise ProbeError(
                f"{self.client.url} gives {len(rows)} rows of {len(ids) - start} tokens; allowed: "
                "one a token"
            )
        told = [row[1] for row in rows]
        # A token that is the last of the vocabulary is echoed as 0.
        last = max(ids)
        pairs = zip(told, ids[start:], strict=True)
        if any(one != own and (one, own) != (0, last) for one, own in pairs):
            raise ProbeError(f"{self.client.url} gives rows of other tokens than it was sent")
        return as_losses([row[0] for row in rows[first - start :]], len(ids) - first, self.client)

    @property
    def longest(self) -> int | None:
        """See :class:`Api`; it keeps some tokens free, and its cache may be smaller than a text."""
        try:
            most = self.client.get("/server_info").get("max_req_input_len")
        except RefusedError:
            most = None
        of_models = super().longest
        known = [most - 1 if most else None, of_models - 6 if of_models else None]
        return min((length for length in known if length is not None), default=None)

    def next_token(self, ids: Sequence[int]) -> tuple[int, float]:
        """See :class:`Api`."""
        rows = field(self._generate(ids, len(ids) - 1), "output_token_logprobs", self.client)
        if not rows or rows[0][0] is None:
            raise ProbeError(f"{self.client.url} gives no log-probability of the next token")
        return int(rows[0][1]), float(rows[0][0])

    def _generate(self, ids: Sequence[int], start: int) -> Any:
        content = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": 0},
            "return_logprob": True,
            "logprob_start_len": start,
        }
        meta = field(self.client.post("/generate", content), "meta_info", self.client)
        if meta.get("prompt_tokens") not in (None, len(ids)):
            raise ProbeError(
                f"{self.client.url} has read {shown(meta['prompt_tokens'])} tokens of {len(ids)}; "
                "allowed: all, so no --allow-auto-truncate"
            )
        return meta
