"""What is changed in a whole model: recorded in the recipe, and repeated when the model is loaded."""
