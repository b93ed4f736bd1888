"""How state is stored between steps."""
