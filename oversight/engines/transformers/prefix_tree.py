"""Keys and values of earlier prompts and answers, kept as a tree over their token ids.

Prompts of one debate share their first parts, and so do the prompts of both
debaters and of all candidates of one turn: a shared part is kept once. A node
is a run of tokens with its keys and values; paths from the root are the token
sequences seen. The least recently used ends are dropped first (Zheng et al.,
"SGLang: Efficient Execution of Structured Language Model Programs", 2024).

Shapes: H heads, T tokens, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from oversight.chat.prompt_ids import TokenIds

LayersKV = list[tuple[torch.Tensor, torch.Tensor]]
"""For each layer its keys and values, each of shape [H, T, D]."""


def common_prefix(left: TokenIds, right: TokenIds) -> int:
    """How many first tokens are the same in both."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length


@dataclass(eq=False)
class Node:
    """A run of tokens that follows its parent's."""

    token_ids: TokenIds
    kv: LayersKV
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    """By the first token of each."""
    last_used: int = 0

    def adopt(self, child: Node) -> None:
        """Make `child` follow this run."""
        child.parent = self
        self.children[int(child.token_ids[0])] = child


@dataclass(frozen=True)
class Prefix:
    """The longest kept beginning of a prompt: runs in order, and how much of each is shared."""

    length: int
    runs: tuple[tuple[Node, int], ...]


class PrefixTree:
    """At most `capacity` tokens of keys and values, found again by token ids.

    Not safe for use by several threads.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_tokens = 0
        self._clock = 0
        self._root = Node(np.empty(0, np.int64), [], None)

    def match(self, token_ids: TokenIds) -> Prefix:
        """The longest beginning of `token_ids` that is kept; its runs count as used now."""
        self._clock += 1
        node, position, runs = self._root, 0, []
        while position < len(token_ids):
            child = node.children.get(int(token_ids[position]))
            if child is None:
                break
            shared = common_prefix(child.token_ids, token_ids[position:])
            child.last_used = self._clock
            runs.append((child, shared))
            position += shared
            if shared < len(child.token_ids):
                break
            node = child
        return Prefix(position, tuple(runs))

    def insert(self, token_ids: TokenIds, read: Callable[[int, int], LayersKV]) -> None:
        """Keep a sequence, as much of its beginning as fits.

        Args:
            token_ids: The whole sequence.
            read: Gives copies of its keys and values from a start up to an end position.
        """
        token_ids = token_ids[: self.capacity]
        prefix = self.match(token_ids)
        if prefix.length == len(token_ids):
            return
        self._evict(self.capacity - (len(token_ids) - prefix.length))
        # The sequence's own path was used last, so that it is still there, but for the case
        # that it alone did not leave enough room.
        prefix = self.match(token_ids)
        parent = self._branch_point(prefix)
        end = min(len(token_ids), prefix.length + self.capacity - self.num_tokens)
        if end > prefix.length:
            node = Node(token_ids[prefix.length : end].copy(), read(prefix.length, end), parent)
            node.last_used = self._clock
            parent.adopt(node)
            self.num_tokens += len(node.token_ids)

    def clear(self) -> None:
        """Forget everything."""
        self._root.children.clear()
        self.num_tokens = 0

    def _branch_point(self, prefix: Prefix) -> Node:
        """The node that ends where `prefix` does, made by cutting a run in two if need be."""
        if not prefix.runs:
            return self._root
        node, shared = prefix.runs[-1]
        return node if shared == len(node.token_ids) else _split(node, shared)

    def _evict(self, num_tokens: int) -> None:
        """Drop the least recently used ends until at most `num_tokens` are kept."""
        while self.num_tokens > num_tokens:
            leaf = min(self._leaves(), key=lambda node: node.last_used)
            assert leaf.parent is not None
            del leaf.parent.children[int(leaf.token_ids[0])]
            self.num_tokens -= len(leaf.token_ids)

    def _leaves(self) -> list[Node]:
        found, open_nodes = [], list(self._root.children.values())
        while open_nodes:
            node = open_nodes.pop()
            open_nodes.extend(node.children.values())
            if not node.children:
                found.append(node)
        return found


def _split(node: Node, length: int) -> Node:
    """Cut `node` after `length` tokens; gives the first half, which the second now follows.

    Both halves are copies: a view would keep the memory of the whole run alive
    after one half is dropped.
    """
    assert node.parent is not None
    head = Node(
        node.token_ids[:length].copy(),
        [(keys[:, :length].clone(), values[:, :length].clone()) for keys, values in node.kv],
        node.parent,
        last_used=node.last_used,
    )
    node.parent.adopt(head)
    node.token_ids = node.token_ids[length:].copy()
    node.kv = [(keys[:, length:].clone(), values[:, length:].clone()) for keys, values in node.kv]
    head.adopt(node)
    return head
