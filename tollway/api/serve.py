"""
Serves the application in this process, until it is told to end; requests under way are then finished.

One process, so that a kill leaves nothing behind that holds the port. Granian warns of embedding as experimental, which
is why its log begins at errors; the tests start and end it as users do.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from tollway.api.app import create_app
from tollway.api.settings import ApiSettings
from tollway.api.stores import ApiStores


def serve(settings: ApiSettings, stores: ApiStores, ready: Callable[[], None]) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        settings: Where to listen.
        stores: What to serve; closed in the end.
        ready: Is called once it listens.
    """
    asyncio.run(_serve(settings, stores, ready))


async def _serve(settings: ApiSettings, stores: ApiStores, ready: Callable[[], None]) -> None:
    server = Server(
        create_app(stores),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_level=LogLevels.error,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    serving = asyncio.create_task(server.serve())
    await _listening(settings, serving)
    ready()
    await serving


async def _listening(settings: ApiSettings, serving: asyncio.Task[None]) -> None:
    """Wait until a connection is taken, or serving failed."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
