"""The checks of the exercises, a module per notebook; `check` imports the one that it needs."""
