"""
A real Apache Kafka for tests and benchmarks: one broker in KRaft mode, as a child process.

Its jars come by Maven, once, into a cache folder that later runs use again. `TOLLWAY_TEST_KAFKA` names the
bootstrap servers of a broker that runs already, where none is to be started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.ports import free_ports

KAFKA_VERSION = "4.1.1"
RUNNING = "TOLLWAY_TEST_KAFKA"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
FETCH_SECONDS = 300.0

USER, PASSWORD = "metering", "s3cret-of-the-broker"
"""Who may come in at the listener that asks for a password."""

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tollway</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
required user_{user}="{password}";
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
log.segment.delete.delay.ms=100
"""


class BrokerUnavailable(Exception):
    """No broker can be had here; the message says why."""


def jars() -> Path:
    """
    The folder with Kafka's jars, filled by Maven where it is not there yet.

    Raises:
        BrokerUnavailable: There is no Java or no Maven, or Maven could not get them.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise BrokerUnavailable(f"no `{program}` on the path, which a real Kafka broker needs")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tollway-tests"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"kafka-{KAFKA_VERSION}"
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        (folder / "pom.xml").write_text(POM.format(kafka=KAFKA_VERSION))
        command = ["mvn", "--batch-mode", "--quiet", COPY, f"-DoutputDirectory={folder / 'jars'}"]
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise BrokerUnavailable(f"Maven did not get Kafka {KAFKA_VERSION} in {FETCH_SECONDS} s") from None
        if ended.returncode:
            said = (ended.stdout + ended.stderr).decode(errors="replace").strip().splitlines()
            raise BrokerUnavailable(f"Maven could not get Kafka {KAFKA_VERSION}: {said[0] if said else 'no reason'}")
        (folder / "jars").rename(target)


class Broker:
    """
    One broker with a folder of its own. What it holds is still there after `stop` or `kill`, at the next `start`.

    Besides the open listener there is one that asks for `USER` and `PASSWORD`, at `sasl_bootstrap`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jars = jars()
        self._port = free_ports(3)
        self._sasl_port, controller_port = self._port + 1, self._port + 2
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = folder / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(
                folder=folder,
                port=self._port,
                sasl_port=self._sasl_port,
                controller_port=controller_port,
                user=USER,
                password=PASSWORD,
            )
        )
        self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", uuid4().hex[:22], "-c")

    @property
    def bootstrap(self) -> str:
        """Where clients begin."""
        return f"127.0.0.1:{self._port}"

    @property
    def sasl_bootstrap(self) -> str:
        """Where clients begin that have a password."""
        return f"127.0.0.1:{self._sasl_port}"

    def start(self) -> None:
        """Start it, and wait until it answers. Raises `BrokerUnavailable` with what it printed."""
        assert self._process is None, "the broker runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_with_parent(), *self._command("kafka.Kafka"), str(self._properties)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.bootstrap):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerUnavailable(f"the Kafka broker did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop it cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would end the process."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self._folder / "broker.log"

    def _command(self, main: str) -> list[str]:
        heap = ["-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *heap, level, "-cp", f"{self._jars}/*", main]

    def _java(self, main: str, *arguments: str) -> None:
        command = [*self._command(main), *arguments, str(self._properties)]
        ended = subprocess.run(command, capture_output=True, check=False)
        if ended.returncode:
            raise BrokerUnavailable(f"{main} failed:\n{(ended.stdout + ended.stderr).decode(errors='replace')[-2000:]}")


def answers(bootstrap: str) -> bool:
    """Whether a broker answers there."""
    try:
        return bool(AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=1).brokers)
    except KafkaException:
        return False


@contextlib.contextmanager
def broker() -> Iterator[Broker]:
    """A broker that runs, in a folder that goes with it. Raises `BrokerUnavailable`."""
    with tempfile.TemporaryDirectory(prefix="tollway-kafka-") as name:
        started = Broker(Path(name))
        try:
            started.start()
            yield started
        finally:
            started.kill()


def _with_parent() -> list[str]:
    """What lets the broker end with whoever started it, also where that is killed; nothing where it can't be had."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
