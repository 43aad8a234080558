"""Training: from a recipe to a trained model. The only package that uses Lightning."""
