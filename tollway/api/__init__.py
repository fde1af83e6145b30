"""
The HTTP API: OpenMeter's paths and bodies under `/api/v1` and `/api/v3/openmeter`, our own under `/api/v3/tollway`.

    app, serve               the application, and the process that serves it
    ingest                   events into the log
    setup, plans, subscriptions    the catalog, through the control plane
    credits, charges, invoices     the ledger
    usage                    what a meter counted
    gate, access             may this customer go on? from Redis alone
    operations               health, metrics, and what Tollway adds
"""
