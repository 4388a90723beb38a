"""Records training runs, and exports their models to model folders."""
