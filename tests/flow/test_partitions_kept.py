"""A flow that is to go on without what it read before says so, and what to do: it does not fail as a defect."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dataflows.engine import run_engine
from dataflows.recovery.store import PartitionsMissing, expect_all
from tests.conftest import Stores
from tests.engine_runs import check_ledger, query, write_records
from tests.flow.test_flow import CUSTOMERS, usage, world
from tests.world import line
from tollway.commands.failures import explain

BAD_INPUT = 2


def test_another_file_than_the_store_knows_is_refused_and_with_both_it_goes_on(stores: Stores, tmp_path: Path) -> None:
    write_records(stores, world("500"))
    stream = usage(6, 200)
    first, second = (tmp_path / f"{name}.jsonl" for name in ("first", "second"))
    first.write_bytes(b"\n".join(map(line, stream[:100])))
    second.write_bytes(b"\n".join(map(line, stream[100:])))
    settings = msgspec.structs.replace(stores.settings, home=tmp_path / "home", recovery=True, epoch_ms=200)

    def run(*files: Path) -> None:
        run_engine(settings, stores.redis_url, stores.postgres_dsn, files=[*files], drain=True)

    run(first)
    with pytest.raises(PartitionsMissing) as refused:
        run(second)
    assert explain(refused.value) == (str(refused.value), BAD_INPUT)
    what, _, hint = str(refused.value).partition("\nhint: ")
    assert f"`{first}`" in what
    assert "`--file`" in hint
    run(first, second)
    check_ledger(stores, stream, CUSTOMERS)
    # Without any file it goes on too: the log is what it reads then.
    run()
    assert query(stores, "select count(*) from dead_letters") == [(0,)]


@pytest.mark.parametrize(
    ("step_id", "named", "remedy"),
    [
        ("events", "partition `003`", "TOLLWAY_PARTITIONS"),
        ("files", "file `a.jsonl`", "--file"),
        ("kafka-usage", "partition `usage-002`", "the topic"),
    ],
)
def test_each_kind_of_source_names_what_is_missing_and_the_way_out(step_id: str, named: str, remedy: str) -> None:
    known = named.split("`")[1]
    with pytest.raises(PartitionsMissing) as refused:
        expect_all(step_id, [known, "there"], ["there", "new"])
    what, _, hint = str(refused.value).partition("\nhint: ")
    assert named in what
    assert "there`" not in what
    assert remedy in hint
    expect_all(step_id, ["there"], ["there", "new"])


def test_of_many_that_are_missing_some_are_named() -> None:
    with pytest.raises(PartitionsMissing, match="and 3 more"):
        expect_all("files", map(str, range(8)), [])
