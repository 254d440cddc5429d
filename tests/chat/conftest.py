"""Tokenizers with and without chat templates."""

from tests.engines.conftest import tiny_model, tiny_model_without_template
from tests.train.data.conftest import bare, chat, said, tokenizers

__all__ = ["bare", "chat", "said", "tiny_model", "tiny_model_without_template", "tokenizers"]
