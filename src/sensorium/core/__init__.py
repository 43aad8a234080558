"""What flows between the parts, and what each part promises."""
