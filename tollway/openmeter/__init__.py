"""
OpenMeter's HTTP API, in both of its dialects: v1 under `/api/v1`, v3 under `/api/v3/openmeter`.

    dialect    what the dialects call otherwise, and all in which they differ
    codec      derives from a struct the one that a dialect reads or writes
    shapes     what bodies and views are, and pages of views
    routes     an operation as a route of one dialect, or of both
    stores, threads, filters, wire, problems
               what operations work with, where they run, how lists are filtered and paged, how failures are told

Each other file is a resource: its bodies, its view, its commands and queries, its routes. They are written once, in
v3's words.

    meters, features, customers                the catalog
    subscriptions, subscription_views, subscription_moves
    plans, plan_bodies, prices, entitlements
    grants, credits, charges                   the ledger
    invoices, invoice_views
    usage, metering                            what a meter counted
    access                                     may this customer go on?
"""
