"""The recovery store: where it is, its copies in the ledger, and how a lost one is made anew."""
