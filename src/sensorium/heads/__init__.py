"""What tasks and late fusions share behind the fused vector: decisions, answers, views and stacking."""
