"""What operations work with, as far as they have to know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TypeAlias

from litestar.di import NamedDependency

from tollway.control import Changes, ControlPlane
from tollway.gate.projection import GateReader
from tollway.ledger_reads import Connection


class ApiStores(ABC):
    """Redis and PostgreSQL, shared by all requests of a process."""

    plane: ControlPlane
    gate: GateReader

    @abstractmethod
    def connection(self) -> AbstractContextManager[Connection]:
        """A connection to the ledger, in autocommit."""

    @abstractmethod
    def changing(self) -> AbstractContextManager[Changes]:
        """One transaction of the control plane; when it is through, the gate knows."""


Stores: TypeAlias = NamedDependency[ApiStores]
"""The stores, as an operation asks for them."""
