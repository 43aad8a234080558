"""A trained model behind HTTP: answers, explanations, a page and a live stream. Needs ``sensorium[serve]``."""
