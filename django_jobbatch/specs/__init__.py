"""What a builder describes: frozen values, checked, without models or rq."""
