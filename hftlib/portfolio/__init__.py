"""Money: one cost model, one file of measures, ledgers, and weights of many assets.

`ledger` counts one instrument in compiled floats, `positions` many in exact decimals;
a test holds them to each other.
"""
