"""
Catalog files: meters, features, plans and customers as one YAML file.

All scalars are kept as the text they were written in, so that no amount ever is a float: `0.1` and `"0.1"`
are the same amount, and `1e-7`, `010` and `2026-03-01` are not guessed at. A file either says something that
can be used, or is refused with the path, the line and the remedy. Applying one again changes nothing.

    reading                         CatalogFile, and the two ways to one: from a path, from its text
    meters, plans, customers        what each kind of thing says
    document, fields                YAML with its lines, and single fields
    places                          errors, by the names and the lines of the file
    applying, subscribing           bringing the catalog to what the file says; a file as control records
    said                            what files said before
"""

from tollway.catalog_file.applying import apply, records
from tollway.catalog_file.places import CatalogFileError
from tollway.catalog_file.reading import CatalogFile, load_catalog_file, read_catalog
from tollway.catalog_file.said import Change

__all__ = [
    "CatalogFile",
    "CatalogFileError",
    "Change",
    "apply",
    "load_catalog_file",
    "read_catalog",
    "records",
]
