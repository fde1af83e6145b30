"""
Catalog files that are nearly right: each is refused with its path, or taken, and can be rated by then.

`FUZZ_CATALOGS` and `FUZZ_SEED` in the environment make for a longer, or another, run: `make fuzz`.
"""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from datetime import timedelta

from tests.conftest import Stores
from tests.engine_runs import drain, query
from tests.fuzz.mutations import Catalogs, start_of
from tests.fuzz.turns import say
from tests.plane import Plane
from tests.world import line
from tollway.batch import rate_file
from tollway.catalog_file import apply, read_catalog, records
from tollway.control import ControlError

CATALOGS = int(os.environ.get("FUZZ_CATALOGS", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "20260302"))
APPLIED_SHARE = 10
"""One in so many that are taken is applied to stores too, on top of what others said before."""

NOW = start_of()
EVENTS = [
    {"type": "llm.request", "data": {"input_tokens": 1200, "output_tokens": 350, "model": "large"}},
    {"type": "vector_store.measured", "data": {"gigabytes": "0.5"}},
    {"type": "api.call", "data": {"duration_ms": 5, "route": "/v1"}},
]
USAGE = b"\n".join(
    line(
        {"specversion": "1.0", "source": "fuzz", "subject": subject, "id": f"{subject}{number}{back}"}
        | found
        | {"time": (NOW - timedelta(days=back)).isoformat()}
    )
    for subject in ("acme", "globex", "initech")
    for number, found in enumerate(EVENTS)
    for back in (0, 40)
)


def test_each_file_is_refused_by_its_path_or_can_be_rated(stores: Stores) -> None:
    """Nothing else is raised; what was applied to stores lets the dataflow start, and rate."""
    chance, made = random.Random(SEED), Catalogs()
    ends: Counter[str] = Counter()
    unnamed: list[str] = []
    with Plane(stores.postgres_dsn, stores.redis_url) as plane:
        for number in range(CATALOGS):
            text = made.make(chance)
            try:
                file = read_catalog(text)
                found = records(file, NOW)
            except ControlError as error:
                ends["refused"] += 1
                unnamed += [text] if not error.path.startswith("$") and not error.line else []
                continue
            ends["taken"] += 1
            result = rate_file(found, io.BytesIO(USAGE), NOW)
            assert result.read == len(USAGE.split(b"\n"))
            ends["failed"] += result.ended["rejected", "failed"]
            if ends["taken"] % APPLIED_SHARE == 1:
                try:
                    apply(plane, file)
                    ends["applied"] += 1
                except ControlError:
                    ends["refused by what is there"] += 1
            if number % 1000 == 999:
                say(f"catalogs: {number + 1}, {dict(ends)}")
    drain(stores)
    say(f"\ncatalogs: {CATALOGS}, {dict(ends)}")
    assert not unnamed, unnamed[:3]
    assert ends["failed"] == 0
    assert ends["taken"] > CATALOGS / 20
    assert ends["applied"]
    assert query(stores, "select count(*) > 0 from customers") == [(True,)]
