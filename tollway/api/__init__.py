"""
The HTTP API: OpenMeter's paths and bodies under `/api/v1` and `/api/v3/openmeter`, our own under `/api/v3/tollway`.

    server    how it is served
        app                      the application: its operations
        guard, admission, keys, roles
                                 around every request: who may do what, how large it may be, how long it may take
        serve, listen            the processes that serve it, and where
        stores, settings         what the operations work with, and the limits
        bodies, encoding         what comes in
        pressure                 how many events at once
        metrics                  what is counted
        description, docs        OpenAPI's document, and a page of it
    routes    what is not of OpenMeter's resources
        ingest                   events into the log
        account                  all that the gate sees of a customer
        operations               health, metrics, and what was not rated

OpenMeter's resources are in `tollway.openmeter`.
"""
