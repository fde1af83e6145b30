"""
The HTTP API: OpenMeter's paths and bodies under `/api/v1` and `/api/v3/openmeter`, our own under `/api/v3/tollway`.

    app                      the application: its operations
    guard, keys, roles       what surrounds every request: who may do what, how large it may be, how long it may take
    serve, listen            the processes that serve it, and where
    stores, pool, threads    what the operations work with
    ingest, pressure         events into the log, and how many at once
    metrics                  what is counted
    plans                    the catalog, through the control plane; its other resources are in `tollway.openmeter`
    invoices                 what was charged, as v1 has it
    usage                    what a meter counted
    gate, access             may this customer go on? from Redis alone
    operations               health, metrics, and what Tollway adds
"""
