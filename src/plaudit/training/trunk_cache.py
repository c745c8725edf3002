"""Trunk states of the training data, computed once and kept in memory for every epoch and every ensemble member."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from plaudit.core.progress import Progress
from plaudit.core.records import TokenGroup
from plaudit.models.packing import Packed, batches, pack, packed_length


class HasTrunk(Protocol):
    """A policy or a scalar model."""

    def states(self, packed: Packed) -> Tensor: ...


class TrunkCache:
    """States of groups by number. Groups beyond the memory limit are computed again whenever they are needed.

    Which groups are kept depends on their lengths alone and each is computed in the same batch every time, so that a
    resumed run finds the very same numbers.
    """

    def __init__(self, model: HasTrunk, groups: Sequence[TokenGroup], *, max_batch_tokens: int) -> None:
        self.groups = groups
        self._model = model
        self._max_batch_tokens = max_batch_tokens
        self._kept: dict[int, Tensor] = {}

    @property
    def kept(self) -> int:
        """Groups whose states lie in memory."""
        return len(self._kept)

    def fill(self, room: int) -> int:
        """Compute the states of the groups that fit into `room` bytes, the longest first; returns the bytes used."""
        used = 0
        with Progress("trunk states (tokens)", sum(map(packed_length, self.groups))) as progress:
            for batch in batches(self.groups, max_tokens=self._max_batch_tokens):
                states = self._model.states(pack([self.groups[index] for index in batch]))
                size = states.numel() * states.element_size()
                if used + size > room:
                    break
                used += size
                for index, part in zip(batch, states.split(self._lengths(batch)), strict=True):
                    self._kept[index] = part.clone()  # a view would keep the batch alive
                progress.advance(len(states))
        return used

    def batches(self) -> Iterator[tuple[list[int], Packed, Tensor]]:
        """All groups in rows, longest first: their numbers, the row, and its states."""
        for batch in batches(self.groups, max_tokens=self._max_batch_tokens):
            packed = pack([self.groups[index] for index in batch])
            yield batch, packed, self.states(batch, packed)

    def states(self, numbers: Sequence[int], packed: Packed) -> Tensor:
        """States of `packed`, which holds the groups `numbers` in this order."""
        missing = [number for number in numbers if number not in self._kept]
        if len(missing) == len(numbers):
            return self._model.states(packed)
        fresh: dict[int, Tensor] = {}
        if missing:
            computed = self._model.states(pack([self.groups[number] for number in missing]))
            fresh = dict(zip(missing, computed.split(self._lengths(missing)), strict=True))
        return torch.cat([fresh[number] if number in fresh else self._kept[number] for number in numbers])

    def _lengths(self, numbers: Sequence[int]) -> list[int]:
        return [packed_length(self.groups[number]) for number in numbers]
