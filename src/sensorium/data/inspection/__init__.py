"""What a table holds: types of columns and targets, duplicates, leakage, cells that cannot be used."""
