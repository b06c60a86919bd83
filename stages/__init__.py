"""One module a DVC stage, and what they share; each reads, computes through pipeline/, writes through store/."""
