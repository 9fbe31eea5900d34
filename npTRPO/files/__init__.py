"""Files that are written whole or not at all, and read with care: it knows nothing of learning."""
