"""What an agent keeps of its experience, and when it learns from it."""
