"""What the tables of results are made of."""
