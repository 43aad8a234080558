"""HTTP server for trained models: predictions, explanations, a web page and live streams. Needs ``sensorium[serve]``."""
