"""How the cost of each stage grows, the first bottleneck at each scale, and what much larger markets would cost."""
