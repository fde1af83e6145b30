"""
Real servers without an installation: Valkey and PostgreSQL as child processes under the home folder.

`servers()` gives the addresses to work with. How processes share them is said in `tollway.embedded.home`.
"""

from tollway.embedded.home import Endpoints, HomeStatus, servers, status, stop_servers
from tollway.embedded.postgres import program_folder
from tollway.embedded.server import ServerError, ServerStatus

__all__ = [
    "Endpoints",
    "HomeStatus",
    "ServerError",
    "ServerStatus",
    "program_folder",
    "servers",
    "status",
    "stop_servers",
]
