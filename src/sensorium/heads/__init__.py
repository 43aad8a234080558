"""Components shared by tasks and late fusion: decision rules, predictions, report views and stacking."""
