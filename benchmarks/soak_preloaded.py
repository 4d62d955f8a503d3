"""Imported by the process that killed runs are forked from: everything slow, once."""

from benchmarks.soak_home import job

job("backfill")
