"""What Dagster shows: thin assets, checks, jobs, schedules and resources."""
