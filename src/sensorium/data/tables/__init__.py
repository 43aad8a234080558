"""Readers of tables: delimited text, JSON, Parquet and frames, Excel workbooks, folders of media."""
