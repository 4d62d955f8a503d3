-- Run once, by a new PostgreSQL; it makes database lake by itself.
create database dagster;
create database mlflow;
