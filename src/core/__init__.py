"""What every other package may use: errors, paths, files written whole, digests."""
