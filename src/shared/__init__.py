"""What more than one room, or a room and the command line, need: one noun a file."""
