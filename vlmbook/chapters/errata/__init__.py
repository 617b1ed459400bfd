"""The notebook of errata and references: its rows, what it computes and draws, its exercises."""
