"""Layers of the network, each written from its equations."""
