"""Kafka: its topics, made and checked."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from config.kafka import PREFIX, KafkaSettings, load_kafka
from config.settings import SettingError
from sinks.kafka.client import admin, group_of
from sinks.kafka.topics import PARTITIONS, Found, look, make, wanted
from tollway.console import REFUSED, print_json, print_table, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    help="Make and check the Kafka topics that the settings TOLLWAY_KAFKA_… name.\n\nExample: tollway kafka init",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("init")
def init(
    partitions: Annotated[
        int, typer.Option(min=1, max=1024, help="The partitions of each topic. Take enough: more later reorder usage.")
    ] = PARTITIONS,
    replication: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1: as the brokers have it.")
    ] = -1,
    as_json: Json = False,
) -> None:
    """
    Make the topics that are not there yet. One that is there stays as it is; how it differs is told.

    Example: tollway kafka init --partitions 24 --replication 3
    """
    kafka = _settings()
    _show(make(admin(kafka), wanted(kafka, partitions), replication or -1), as_json)


@app.command("check")
def check(as_json: Json = False) -> None:
    """
    Check that the topics are there and set as they should be. The exit code is 1 where one is not.

    Example: tollway kafka check
    """
    kafka = _settings()
    topics = wanted(kafka)
    found = [
        seen or Found(topic.name, topic.purpose, "missing", 0, {})
        for topic, seen in zip(topics, look(admin(kafka), topics), strict=True)
    ]
    _show(found, as_json)
    say(f"Offsets are mirrored to the consumer group {group_of(kafka)}.")
    if any(topic.state in ("missing", "differs") for topic in found):
        raise typer.Exit(REFUSED)


def _settings() -> KafkaSettings:
    kafka = load_kafka(os.environ)
    if kafka is None:
        raise SettingError(
            f"`{PREFIX}BOOTSTRAP_SERVERS` is not set\nhint: name the brokers, for example broker-1:9092,broker-2:9092"
        )
    return kafka


def _show(found: list[Found], as_json: bool) -> None:
    for topic in found:
        if topic.state == "missing":
            say(f"{topic.topic} is not there: `tollway kafka init` makes it.")
        for name, (advised, seen) in topic.differences.items():
            say(f"{topic.topic}: {name} is {seen}, and {advised} is advised.")
    if as_json:
        print_json([_shown(topic) for topic in found])
        return
    rows: list[list[object]] = [[topic.topic, topic.state, topic.partitions, topic.purpose] for topic in found]
    print_table("Topics", ["topic", "state", "partitions", "for"], rows)


def _shown(topic: Found) -> dict[str, Any]:
    differences = [{"setting": name, "advised": a, "found": f} for name, (a, f) in topic.differences.items()]
    return {
        "topic": topic.topic,
        "for": topic.purpose,
        "state": topic.state,
        "partitions": topic.partitions,
        "differences": differences,
    }
