"""Floor 7: the faces.  One command a file; they parse, call and print, and know nothing else."""
