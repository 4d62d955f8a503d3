"""Orchestration of learned order execution: Dagster, DuckDB and MLflow live here and nowhere else."""
