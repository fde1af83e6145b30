"""The recovery store: where it is and how it is shared out, its copies in the ledger, and how a lost one is made anew."""
