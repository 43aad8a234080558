"""Text processing, usable on its own: tokenisers, words, numbers, dates and durations."""
