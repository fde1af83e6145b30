"""Books to invoice from: a real database, with what the control plane and the dataflow would have written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Stores
from tests.invoicing.books import Books


@pytest.fixture
def books(stores: Stores) -> Iterator[Books]:
    """Empty books."""
    with Books.open(stores.postgres_dsn) as books:
        yield books
