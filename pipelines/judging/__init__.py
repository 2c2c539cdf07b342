"""What a held-out result is worth: figures, how sure they are, the verdict, the registry."""
