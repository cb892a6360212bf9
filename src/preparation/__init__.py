"""Parts of the preparation that several kinds of data share: splits, and proposals for new data."""
