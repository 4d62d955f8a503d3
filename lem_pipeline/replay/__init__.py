"""A venue on this computer: Binance and Yahoo Finance as their clients know them, with faults to switch on."""
