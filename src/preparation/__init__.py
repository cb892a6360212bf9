"""What the preparation of several kinds of data needs: splits, and proposals for new data."""
