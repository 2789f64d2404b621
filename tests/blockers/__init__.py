"""What ad blockers would block, asked of their own engines with their own lists."""
