"""What people look at: the table of results, confusion matrices, sheets of samples, one page of all of it."""
