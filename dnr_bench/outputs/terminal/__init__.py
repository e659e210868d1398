"""What commands print: readable at 80 columns, with details where `verbose` asks for them."""
