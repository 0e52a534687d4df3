"""A database whose server accepts connections and never answers."""
