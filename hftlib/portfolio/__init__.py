"""Money: one cost model, one ledger, one file of measures."""
