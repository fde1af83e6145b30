"""What README and docs/kafka.md show is run on a real broker, from their beginning to their end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from config.kafka import KafkaSettings
from sinks.kafka.client import admin
from sinks.kafka.topics import look, wanted
from tests.docs.pages import ROOT, Block, blocks
from tests.docs.test_examples import NOTHING, OUTPUT, RUNNING, environment, pattern
from tests.kafka.broker import Broker
from tests.kafka.changes import delete_topic
from tests.waiting import PATIENCE_SECONDS, read_until, wait_for

DOCUMENTED = "localhost:9092"
EXPORT = re.compile(r"^export (\w+)=(\S+)$", re.MULTILINE)
BEGINNING = "README.md"


class Walk:
    """Someone who follows a page, with a broker of one's own for the one that the page names."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self._folder = folder
        self._bootstrap = bootstrap
        self._environment = environment()
        self._background: subprocess.Popen[bytes] | None = None

    def take(self, block: Block, output: str | None) -> None:
        """Run a block; where an output is documented, again and again until it prints that."""
        text = block.text.replace(DOCUMENTED, self._bootstrap)
        self._environment |= dict(EXPORT.findall(text))
        if "background" in block.info:
            self._start(text)
            return
        interpreter = [sys.executable] if block.info[0] == "python" else ["bash", "-euo", "pipefail"]

        def ran() -> str:
            ended = subprocess.run(
                [*interpreter, "-c", text],
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr.decode()
            return ended.stdout.decode()

        read_until(
            ran,
            lambda printed: output is None or pattern(output).fullmatch(printed),
            lambda printed: f"line {block.line} to print\n{output}\nand it printed\n{printed}",
        )

    def _start(self, text: str) -> None:
        log = self._folder / "background.log"
        with log.open("wb") as output:
            self._background = subprocess.Popen(
                ["bash", "-c", f"exec {text}"], cwd=self._folder, env=self._environment, stdout=output, stderr=output
            )
        process = self._background
        wait_for(lambda: RUNNING in log.read_text() or process.poll() is not None, "the dataflow")
        assert process.poll() is None, log.read_text()

    def end(self) -> None:
        """Stop what was left running; it ends well."""
        if self._background is not None:
            self._background.send_signal(signal.SIGINT)
            try:
                assert self._background.wait(PATIENCE_SECONDS) == 0, (self._folder / "background.log").read_text()
            finally:
                if self._background.poll() is None:
                    self._background.kill()
                    self._background.wait()


@pytest.fixture
def walk(tmp_path: Path, own_broker: Broker) -> Iterator[Walk]:
    """Someone at the beginning, with no topic made."""
    kafka = KafkaSettings(client={"bootstrap.servers": own_broker.bootstrap})
    for found in look(admin(kafka), wanted(kafka)):
        if found is not None:
            delete_topic(kafka, found.topic)
    (tmp_path / "config").symlink_to(ROOT / "config")
    someone = Walk(tmp_path, own_broker.bootstrap)
    try:
        yield someone
    finally:
        someone.end()


def examples(page: str) -> list[tuple[Block, str | None]]:
    """The examples of a page that need Kafka, each with what it prints, if that is documented."""
    found = pairwise([*blocks(ROOT / page), NOTHING])
    return [(block, after.text if after.info == OUTPUT else None) for block, after in found if "kafka" in block.info]


def test_the_section_of_the_readme_works_as_written(walk: Walk) -> None:
    """From naming the brokers to asking the gate."""
    for block, output in examples(BEGINNING):
        walk.take(block, output)


def test_the_examples_of_the_page_on_kafka_work(walk: Walk) -> None:
    """With the dataflow started as the README does it."""
    for block, _ in examples(BEGINNING)[:3]:
        walk.take(block, None)
    for block, output in examples("docs/kafka.md"):
        walk.take(block, output)
