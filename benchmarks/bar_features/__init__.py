"""The statement ``sql/features/bar_features.sql`` and the same columns written in pandas and in polars.

Each module can ``load`` the bars of a parquet file into its own format, make the ``features`` of bars in that format,
and hand them out as pandas frames (``to_pandas``), in whatever order of rows.
"""
