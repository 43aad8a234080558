"""Presentation of results: charts, HTML pages, terminal text, and prediction files."""
