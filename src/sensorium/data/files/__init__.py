"""Files in general: atomic writes, output paths, what a cell may open, media and vectors written out."""
