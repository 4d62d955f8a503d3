"""What the documentation shows of the code itself: settings, definitions, pictures."""
