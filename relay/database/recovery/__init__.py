"""A database file that is not whole: find the damage, save what can be read, archive the rest."""
