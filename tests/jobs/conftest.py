"""A chat model's folder, and vLLM if there is."""

from __future__ import annotations

from tests.train.conftest import chat_model, engine_models, vllm_python

__all__ = ["chat_model", "engine_models", "vllm_python"]
