"""Imported by the process that test runs are forked from: everything slow, once."""

from runs import job

job()
