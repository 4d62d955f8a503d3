"""Large Execution Models in pure torch: orders, accounting, windows, the network and its baselines."""
