"""GitHub Archive's hours as users, organizations, repositories and activities."""
