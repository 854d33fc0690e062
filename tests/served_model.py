"""A server of a tiny model with the routes of vLLM and SGLang, and faults on demand."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Fault = Callable[[int, str], Any]
BLOCK = 16
"""Tokens of a block of the cache."""


class Answer(Exception):
    """What a handler answers instead.

    Args:
        status: HTTP status.
        content: Its JSON.
    """

    def __init__(self, status: int, content: Any) -> None:
        super().__init__(status)
        self.status, self.content = status, content


class ServedModel:
    """A server on the loopback address, as long as its ``with`` lasts.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        way: What vLLM can do: ``targets``, ``rows`` or ``completions``.
        spoil: Changes a request's log-probabilities, all of a prompt's, shape ``(n,)``.
        fault: Called with the number of a request and its route, before it is answered; may raise
            :class:`Answer`, or sleep.
        longest: ``max_model_len``.
        name: What it says that it holds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        way: str = "targets",
        spoil: Callable[[np.ndarray], Any] = lambda found: found,
        fault: Fault = lambda *_: None,
        longest: int = 4096,
        name: str = "tiny",
    ) -> None:
        self.model, self.tokenizer, self.way = model.eval(), tokenizer, way
        self.spoil, self.fault, self.longest, self.name = spoil, fault, longest, name
        self.keys: set[str | None] = set()
        self.requests: list[tuple[str, Any]] = []
        self.cached: list[list[int]] = []
        self.most_at_once = self._now = 0
        self._lock, self._model_lock = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, content: Any) -> None:
                own.keys.add(self.headers.get("Authorization"))
                try:
                    status, found = 200, own.answer(self.path, content)
                except Answer as answer:
                    status, found = answer.status, answer.content
                body = (found if isinstance(found, str) else json.dumps(found)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, route: str, content: Any) -> Any:
        """The JSON of a request."""
        with self._lock:
            number = len(self.requests)
            self.requests.append((route, content))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self.fault(number, route)
            routes = {
                "/v1/models": self._models,
                "/tokenize": self._tokenize,
                "/inference/v1/generate": self._vllm,
                "/v1/completions": self._completions,
                "/generate": self._sglang,
            }
            if route not in routes:
                raise Answer(404, {"detail": "Not Found"})
            return routes[route](content)
        finally:
            with self._lock:
                self._now -= 1

    def _models(self, _: Any) -> Any:
        return {"object": "list", "data": [{"id": self.name, "max_model_len": self.longest}]}

    def _tokenize(self, content: Any) -> Any:
        ids = self.tokenizer.encode(
            content["prompt"], add_special_tokens=content["add_special_tokens"]
        )
        return {"tokens": ids, "count": len(ids), "max_model_len": self.longest}

    def _logp(self, ids: list[int]) -> tuple[np.ndarray, int, float]:
        """Log-probability of each token but the first, the next one and its log-probability."""
        with torch.inference_mode(), self._model_lock:
            logits = self.model(input_ids=torch.tensor([ids])).logits[0].float()
        logp = torch.log_softmax(logits, -1)
        own = logp[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
        found = np.concatenate([[np.nan], own]).astype(np.float32)
        return self.spoil(found), int(logp[-1].argmax()), float(logp[-1].max())

    def _known(self, ids: list[int]) -> int:
        """Tokens of whole blocks that are cached of a prompt; what it adds is cached, too."""
        most = 0
        for known in self.cached:
            same = next(
                (n for n, (a, b) in enumerate(zip(known, ids, strict=False)) if a != b), len(known)
            )
            most = max(most, min(same, len(ids) - 1) // BLOCK * BLOCK)
        self.cached.append(ids)
        return most

    def _vllm(self, content: Any) -> Any:
        if self.way == "completions":
            raise Answer(403, {"error": {"message": "Scale-out endpoints are disabled"}})
        ids, asked = content["token_ids"], content["sampling_params"]
        self._fits(ids)
        logp, token, _ = self._logp(ids)
        answer = {"prompt_logprobs": None, "prompt_token_id_logprobs": None}
        if "prompt_logprob_token_ids" in asked:
            if self.way != "targets":
                raise Answer(400, {"error": {"message": "requires the V2 model runner"}})
            start = asked["prompt_logprob_start"]
            if len(asked["prompt_logprob_token_ids"]) != len(ids) - 1 - start:
                raise Answer(400, {"error": {"message": "wrong number of rows"}})
            assert [row[0] for row in asked["prompt_logprob_token_ids"]] == ids[start + 1 :]
            known = self._known(ids)
            if asked["skip_reading_prefix_cache"] or known <= start:
                stream = io.BytesIO()
                np.save(stream, logp[start + 1 :, None])
                answer["prompt_token_id_logprobs"] = base64.b64encode(stream.getvalue()).decode()
        else:
            assert asked["prompt_logprobs"] == 0
            answer["prompt_logprobs"] = _rows(ids, logp)
        return answer | {"choices": [{"index": 0, "token_ids": [token]}]}

    def _completions(self, content: Any) -> Any:
        ids = content["prompt"]
        self._fits(ids)
        logp, token, told = self._logp(ids)
        choice = {"index": 0, "text": "?", "token_ids": [token], "logprobs": None}
        if "logprobs" in content:
            choice["logprobs"] = {"token_logprobs": [told], "tokens": ["?"]}
        if "prompt_logprobs" in content:
            choice["prompt_logprobs"] = _rows(ids, logp)
        return {"choices": [choice]}

    def _sglang(self, content: Any) -> Any:
        ids, start = content["input_ids"], content["logprob_start_len"]
        self._fits(ids)
        logp, token, told = self._logp(ids)
        rows = [
            [None if np.isnan(one) else float(one), i, None]
            for one, i in zip(logp, ids, strict=False)
        ]
        rows = [[None, ids[start], None], *rows[start + 1 :]] if len(logp) == len(ids) else rows
        return {
            "text": "?",
            "meta_info": {
                "prompt_tokens": len(ids),
                "input_token_logprobs": rows,
                "output_token_logprobs": [[told, token, None]],
            },
        }

    def _fits(self, ids: list[int]) -> None:
        if len(ids) >= self.longest:
            raise Answer(400, {"error": {"message": f"the prompt has {len(ids)} tokens"}})


def _rows(ids: list[int], logp: np.ndarray) -> list[Any]:
    told = [
        {str(i): {"logprob": float(one), "rank": 1, "decoded_token": None}}
        for one, i in zip(logp, ids, strict=False)
    ]
    return [None, *told[1:]]


def away_until(moment: float) -> Fault:
    """A server that answers 503 until then (``time.monotonic``)."""

    def fault(*_: Any) -> None:
        if time.monotonic() < moment:
            raise Answer(503, {"error": {"message": "loading"}})

    return fault
