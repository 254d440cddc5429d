"""How a request is written for an OpenAI-compatible server.

There are two APIs (`chat` and `completions`) and two dialects: `openai` is what every server
understands, `vllm` adds the fields of vLLM's server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from oversight.chat import plain_text
from oversight.types import Prompt, Request

OWN_FIELDS = frozenset(
    {
        *("model", "messages", "prompt", "stream", "stream_options", "stream_interval", "n"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
        *("logprobs", "top_logprobs", "return_token_ids", "structured_outputs"),
    }
)
"""Fields that are set from the request, so that nobody else may set them."""

VLLM_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM takes what a request leaves out from the model's `generation_config.json`, and would
then sample from another distribution than the one asked for."""

VLLM_MAX_TOP = 20
"""The most alternatives a vLLM server gives unless it is told otherwise."""

INTERVAL_TOKENS = 16
"""Tokens per event where nobody watches the text grow."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How requests are written for one server."""

    api: Literal["chat", "completions"]
    dialect: Literal["openai", "vllm"]
    max_tokens_name: str
    extra_body: Mapping[str, Any]
    leave_out: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """Where the API is found below the server's base address."""
        return "/chat/completions" if self.api == "chat" else "/completions"

    def body(
        self, model: str, request: Request, prompt: Prompt, *, stream: bool, live: bool
    ) -> bytes:
        """The JSON body, with the request's prompt in the roles that the server takes; `live`
        asks for an event a token rather than one every few."""
        fields: dict[str, Any] = {"model": model, **self._prompt(prompt)}
        if self.dialect == "vllm":
            fields |= VLLM_NEUTRAL
        fields |= self.extra_body
        fields |= self._sampling(request)
        if stream:
            fields["stream"] = True
            if "stream_options" not in self.leave_out:
                fields["stream_options"] = {"include_usage": True}
            if self.dialect == "vllm":
                fields["stream_interval"] = 1 if live else INTERVAL_TOKENS
        return _encode(fields)

    def _prompt(self, prompt: Prompt) -> dict[str, Any]:
        if self.api == "chat":
            return {"messages": prompt.chat()}
        return {"prompt": plain_text(prompt)}

    def _sampling(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        fields: dict[str, Any] = {
            self.max_tokens_name: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            fields["seed"] = sampling.seed
        if sampling.choices:
            fields["structured_outputs"] = {"choice": list(sampling.choices)}
        if self.dialect == "vllm":
            fields["return_token_ids"] = True
        if sampling.logprobs or sampling.top_logprobs:
            fields |= self._logprobs(sampling.top_logprobs)
        left_out = {self.max_tokens_name if n == "max_tokens" else n for n in self.leave_out}
        return {name: value for name, value in fields.items() if name not in left_out}

    def _logprobs(self, num_top: int) -> dict[str, Any]:
        if self.api == "completions":
            return {"logprobs": num_top}
        if self.dialect == "vllm" and 0 < num_top < VLLM_MAX_TOP:
            # vLLM puts the sampled token first and cuts the list afterwards: an unlikely
            # sample would push out the last of the likeliest.
            num_top += 1
        return {"logprobs": True} | ({"top_logprobs": num_top} if num_top else {})


def _encode(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, which no tokenizer could read either
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
