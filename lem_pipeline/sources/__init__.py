"""Where raw bars come from: one interface, one file per source."""
