"""How good, with which senses, and how sure."""
