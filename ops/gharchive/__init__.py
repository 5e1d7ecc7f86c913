"""Import hours of GitHub Archive as users, organizations, repositories and activities."""
